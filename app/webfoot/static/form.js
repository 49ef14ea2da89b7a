// The fields of a UDF's form: what is asked for, and what is wrong with it.

const form = document.getElementById("call");
const fields = [...form.querySelectorAll(".field")];

/** The control of a field that has one, and the boxes of one that has several. */
const controlOf = (field) => field.querySelector("input, select, textarea");
const boxesOf = (field) => [...field.querySelectorAll("input[type=checkbox]")];

/** What is asked for: what differs from the defaults, as a query string. */
export function query() {
  const pairs = [];
  for (const field of fields) {
    const { texts, standard } = readField(field);
    if (texts.join(",") === standard || texts.join("") === "") continue;
    for (const text of texts) pairs.push([field.dataset.name, text]);
  }
  return new URLSearchParams(pairs);
}

function readField(field) {
  const boxes = boxesOf(field);
  if (boxes.length) {
    const ticked = boxes.filter((box) => box.checked);
    return { texts: ticked.map((box) => box.value), standard: field.dataset.default };
  }
  const control = controlOf(field);
  return { texts: [control.value], standard: asWritten(control, control.dataset.default) };
}

/** A text as a field has it: a time, say, without seconds that are zero. */
function asWritten(control, text) {
  const probe = control.cloneNode(true);
  probe.value = text;
  return probe.value;
}

/** Fill the fields with what a query string says, and with defaults. */
export function fill(asked) {
  for (const field of fields) {
    const given = asked.getAll(field.dataset.name).filter(Boolean);
    const boxes = boxesOf(field);
    if (boxes.length) {
      const ticked = given.length
        ? given.flatMap((text) => text.split(","))
        : field.dataset.default.split(",");
      for (const box of boxes) box.checked = ticked.includes(box.value);
    } else {
      const control = controlOf(field);
      control.value =
        given.length > 1 ? JSON.stringify(given) : (given[0] ?? control.dataset.default);
    }
  }
}

/** A query string with its question mark, if there is anything in it. */
export function suffix(parameters) {
  return parameters.size ? `?${parameters}` : "";
}

function showFault(field, message) {
  const control = field.matches("fieldset") ? field : controlOf(field);
  const place = document.getElementById(`${control.id}-error`);
  place.textContent = message;
  place.hidden = !message;
  if (message) control.setAttribute("aria-invalid", "true");
  else control.removeAttribute("aria-invalid");
  return control;
}

/** Take back what was wrong. */
export function clearFaults() {
  for (const field of fields) showFault(field, "");
}

/**
 * Show what is wrong at the fields that it is wrong with, and go to the first of them.
 *
 * @param {{parameter: string, message: string, value: any}[]} faults As a problem has them.
 * @returns {{shown: number, others: string[]}} How many fields, and what has none.
 */
export function showFaults(faults) {
  const controls = [];
  const others = [];
  for (const { parameter, message, value } of faults) {
    const field = fields.find((each) => each.dataset.name === parameter);
    const got = value === null || value === undefined ? "" : `, got ${JSON.stringify(value)}`;
    if (field) controls.push(showFault(field, message + got));
    else others.push(`${parameter}: ${message}${got}`);
  }
  controls[0]?.focus();
  return { shown: controls.length, others };
}

/** What the browser itself cannot read, such as a number of which half is typed. */
export function unreadable() {
  const controls = [...form.elements].filter((control) => control.validity?.badInput);
  return controls.map(({ name, validationMessage }) => ({
    parameter: name,
    message: validationMessage,
  }));
}
