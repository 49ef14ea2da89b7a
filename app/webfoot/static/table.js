// A result as the page holds it: columns with types, rows of texts; and how it is shown.

const NUMBERS = /^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\b.*)$/;
const WHOLE = /^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER)$/;
const MOMENTS = /^(DATE|TIMESTAMP.*)$/;
const MOMENT = /^(\d{4}-\d\d-\d\d)(?: (\d\d:\d\d:\d\d)(?:\.(\d+))?)?(?:([+-]\d\d)(?::?(\d\d))?)?$/;
const LONGEST_CELL = 200;
const LONGEST_NUMBER = 10;
const DIGITS = 6;

/**
 * Read the preview that the server writes.
 *
 * @param {string} html The page; nothing in it is run or loaded.
 * @returns {{columns: {name: string, type: string, kind: string}[],
 *            rows: (string|null)[][], cut: boolean}}
 */
export function readPreview(html) {
  // Without its head: the policy of this page forbids the styles in there.
  const body = html.slice(html.indexOf("<body>"));
  const page = new DOMParser().parseFromString(body, "text/html");
  const columns = [...page.querySelectorAll("thead th")].map((head) => {
    const type = head.querySelector("small").textContent;
    const name = head.textContent.slice(0, -type.length);
    return { name, type, kind: kindOf(type) };
  });
  const rows = [...page.querySelectorAll("tbody tr")].map((row) =>
    [...row.cells].map((cell) => (cell.className === "null" ? null : cell.textContent)),
  );
  return { columns, rows, cut: page.getElementById("cut") !== null };
}

function kindOf(type) {
  if (WHOLE.test(type)) return "whole";
  if (NUMBERS.test(type)) return "number";
  if (MOMENTS.test(type)) return "moment";
  return type === "BOOLEAN" ? "boolean" : "text";
}

/** The values of column `index` as numbers, NaN where there is none; moments in ms since 1970. */
export function numbersOf(table, index) {
  const { kind } = table.columns[index];
  const read = kind === "moment" ? readMoment : (text) => (text === "" ? NaN : Number(text));
  return table.rows.map((row) => (row[index] === null ? NaN : read(row[index])));
}

function readMoment(text) {
  const found = MOMENT.exec(text);
  if (found === null) return NaN;
  const [, day, clock = "00:00:00", fraction = "", hours = "+00", minutes = "00"] = found;
  return Date.parse(`${day}T${clock}.${fraction.slice(0, 3).padEnd(3, "0")}${hours}:${minutes}`);
}

/** Whether a column's values can be measured. */
export const isMeasured = (column) => column.kind === "whole" || column.kind === "number";

/** Show `table` in `host`, which is emptied first. */
export function showTable(host, table, caption) {
  const box = element("div", { className: "scroll rows", tabIndex: 0 });
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "Rows of the result");
  const shown = element("table");
  shown.append(element("caption", { className: "hidden", textContent: caption }));
  const head = shown.createTHead().insertRow();
  head.append(headCell("col", [element("span", { className: "hidden", textContent: "Row" })]));
  for (const column of table.columns) {
    const type = element("small", { textContent: column.type });
    const cell = headCell("col", [element("span", { textContent: column.name }), type]);
    if (isMeasured(column)) cell.className = "number";
    head.append(cell);
  }
  const body = shown.createTBody();
  table.rows.forEach((row, number) => {
    const line = body.insertRow();
    line.append(headCell("row", [String(number + 1)]));
    row.forEach((text, index) => showCell(line.insertCell(), text, table.columns[index]));
  });
  box.append(shown);
  host.replaceChildren(box);
}

function headCell(scope, content) {
  const cell = element("th", { scope });
  cell.append(...content);
  return cell;
}

function showCell(cell, text, column) {
  if (text === null) {
    cell.className = "null";
    cell.textContent = "null";
    return;
  }
  if (isMeasured(column)) cell.className = "number";
  cell.textContent = shorten(text, column);
  // The rest of it, for whoever points there.
  if (cell.textContent !== text) cell.title = text.slice(0, 5 * LONGEST_CELL);
}

/** A value as it is shown where there is little room. */
export function shorten(text, column) {
  if (column.kind === "number" && text.length > LONGEST_NUMBER) {
    const short = String(Number(Number(text).toPrecision(DIGITS)));
    return short.length < text.length ? short : text;
  }
  return text.length > LONGEST_CELL ? `${text.slice(0, LONGEST_CELL)}…` : text;
}

/** An element with these properties; texts are texts, never markup. */
export function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}
