// A quick chart of a table: lines, bars, points or a histogram, as SVG.

import { COMBINE, ROWS, ROWS_NAME, combineFor, isOrdered, marksOf } from "./marks.js";
import { extent, linear, numberTicks, timeTicks, writeMoment, writeNumber } from "./scale.js";
import { element, isMeasured } from "./table.js";
import { makeTooltip } from "./tooltip.js";

const KINDS = { line: "Line", bar: "Bars", point: "Points", histogram: "Histogram" };
const HEIGHT = 380;
const BAR_HEIGHT = 24;
const LETTER = 6.9;
const LONGEST_LABEL = 22;

/**
 * Let a person choose a chart, and draw it.
 *
 * @param {HTMLElement} host Emptied first.
 * @param table The table.
 * @param chosen What `suggestChart` of `marks.js` gives; changed as the person chooses.
 */
export function showChart(host, table, chosen) {
  const names = table.columns.map((column) => column.name);
  const across = names.map((name, index) => [String(index), name]);
  const up = across.filter(([index]) => isMeasured(table.columns[index]));
  const controls = element("form", { className: "controls" });
  const choices = {
    kind: choice("Chart", Object.entries(KINDS), chosen.kind),
    x: choice("Across", across, String(chosen.x)),
    y: choice("Up", [...up, [String(ROWS), ROWS_NAME]], String(chosen.y)),
    combine: choice(
      "Combined by",
      Object.keys(COMBINE).map((each) => [each, each]),
      chosen.combine,
    ),
  };
  for (const { label } of Object.values(choices)) controls.append(label);
  const canvas = element("figure", { className: "chart" });
  host.replaceChildren(controls, canvas);

  function draw() {
    const data = marksOf(table, chosen);
    choices.y.label.hidden = chosen.kind === "histogram";
    choices.combine.label.hidden = !data.combined;
    paint(canvas, data);
  }

  // Words have no order that lines or points could follow: they are given bars.
  function agree(byX) {
    if (chosen.kind === "bar" || isOrdered(table.columns[chosen.x])) return;
    const ordered = table.columns.findIndex(isOrdered);
    if (byX || ordered < 0) chosen.kind = choices.kind.field.value = "bar";
    else choices.x.field.value = String((chosen.x = ordered));
  }

  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("change", (event) => {
    const before = chosen.y;
    chosen.kind = choices.kind.field.value;
    chosen.x = Number(choices.x.field.value);
    chosen.y = Number(choices.y.field.value);
    agree(event.target === choices.x.field);
    if (event.target === choices.y.field && before !== chosen.y) {
      choices.combine.field.value = combineFor(table, chosen.y);
    }
    chosen.combine = choices.combine.field.value;
    draw();
  });
  let width = 0;
  new ResizeObserver(() => {
    // Drawing changes the height; only another width needs another drawing.
    if (canvas.clientWidth !== width && canvas.clientWidth > 0) {
      width = canvas.clientWidth;
      draw();
    }
  }).observe(canvas);
}

function choice(text, options, value) {
  const label = element("label", { textContent: `${text} ` });
  const field = element("select");
  for (const [key, name] of options)
    field.append(element("option", { value: key, textContent: name }));
  field.value = value;
  label.append(field);
  return { label, field };
}

function paint(host, data) {
  const width = host.clientWidth;
  if (data.marks.length === 0) {
    host.replaceChildren(
      element("p", { className: "hint", textContent: "There is nothing to draw." }),
    );
    return;
  }
  const name = `${KINDS[data.kind]}: ${data.yName} by ${data.xName}, ${data.marks.length} marks`;
  const height = data.kind === "bar" ? data.marks.length * BAR_HEIGHT + 64 : HEIGHT;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, tabindex: 0 });
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${name}. Arrow keys go through them.`);
  const places = (data.kind === "bar" ? paintBars : paintPlane)(svg, data, width, height);
  const spoken = element("p", { className: "hidden" });
  spoken.setAttribute("role", "status");
  host.replaceChildren(svg, spoken);
  if (data.note) host.append(element("figcaption", { className: "hint", textContent: data.note }));
  wirePointing(host, svg, spoken, places, data);
}

/** Bars that lie, so that names have room; returns each mark's place. */
function paintBars(svg, data, width, height) {
  const labels = data.marks.map((mark) => clip(nameOf(mark, data)));
  const longest = Math.max(...[data.xName, ...labels].map((label) => clip(label).length));
  const left = Math.min(longest * LETTER + 14, width * 0.4);
  const [low, high] = extent(data.marks.map((mark) => mark.y));
  const domain = [Math.min(0, low), Math.max(0, high)];
  const scale = linear(domain, [left, width - 14]);
  const bottom = height - 44;
  for (const tick of numberTicks(domain, (width - left) / 90)) {
    const x = scale(tick.value);
    svg.append(shape("line", { class: "grid", x1: x, x2: x, y1: 6, y2: bottom }));
    svg.append(words(tick.text, { class: "tick", x, y: bottom + 16, "text-anchor": "middle" }));
  }
  svg.append(
    words(data.yName, { class: "axis", x: width - 14, y: height - 6, "text-anchor": "end" }),
  );
  svg.append(
    words(clip(data.xName), { class: "axis", x: left - 8, y: bottom + 16, "text-anchor": "end" }),
  );
  return data.marks.map((mark, order) => {
    const y = 8 + order * BAR_HEIGHT;
    const [from, to] = [scale(0), scale(mark.y)].sort((a, b) => a - b);
    const bar = shape("rect", {
      class: "mark bar",
      x: from,
      y,
      width: Math.max(to - from, 1),
      height: BAR_HEIGHT - 6,
    });
    svg.append(bar);
    svg.append(
      words(labels[order], { class: "tick name", x: left - 8, y: y + 13, "text-anchor": "end" }),
    );
    return { x: to, y: y + 9, node: bar, mark };
  });
}

/** Lines, points and histograms, between two axes; returns each mark's place. */
function paintPlane(svg, data, width, height) {
  const tall = extent(data.marks.map((mark) => mark.y));
  const fromZero =
    data.kind === "histogram" || (data.kind === "line" && tall[0] >= 0 && tall[0] < tall[1] / 2);
  const domainY = fromZero ? [0, tall[1]] : pad(tall);
  const ticksY = numberTicks(domainY, 6);
  const left = Math.max(...ticksY.map((tick) => tick.text.length)) * LETTER + 16;
  const [top, right, bottom] = [26, width - 16, height - 44];
  const wide = extent(data.marks.flatMap((mark) => [mark.x, mark.end ?? mark.x]));
  const domainX = wide[0] === wide[1] ? pad(wide) : wide;
  const x = linear(domainX, [left + 6, right]);
  const y = linear(domainY, [bottom, top]);
  for (const tick of ticksY) {
    const at = y(tick.value);
    svg.append(shape("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
    svg.append(words(tick.text, { class: "tick", x: left - 8, y: at + 4, "text-anchor": "end" }));
  }
  const moment = data.across.kind === "moment";
  const count = (right - left) / (moment ? 110 : 80);
  for (const tick of (moment ? timeTicks : numberTicks)(domainX, count)) {
    const at = x(tick.value);
    const half = (tick.text.length * LETTER) / 2;
    svg.append(shape("line", { class: "notch", x1: at, x2: at, y1: bottom, y2: bottom + 5 }));
    const middle = Math.min(at, width - half - 2);
    svg.append(
      words(tick.text, { class: "tick", x: middle, y: bottom + 19, "text-anchor": "middle" }),
    );
  }
  svg.append(shape("line", { class: "base", x1: left, x2: right, y1: bottom, y2: bottom }));
  svg.append(words(data.yName, { class: "axis", x: 0, y: 12 }));
  svg.append(words(data.xName, { class: "axis", x: right, y: height - 6, "text-anchor": "end" }));
  const places = data.marks.map((mark) => ({ x: x(mark.x), y: y(mark.y), mark, node: null }));
  if (data.kind === "line") {
    const path = places.map(
      (place, n) => `${n ? "L" : "M"}${place.x.toFixed(1)} ${place.y.toFixed(1)}`,
    );
    svg.append(shape("path", { class: "mark line", d: path.join("") }));
  } else if (data.kind === "point") {
    for (const place of places) {
      place.node = shape("circle", { class: "mark point", cx: place.x, cy: place.y, r: 3.5 });
      svg.append(place.node);
    }
  } else {
    for (const place of places) {
      const end = x(place.mark.end);
      const size = {
        x: place.x,
        width: Math.max(end - place.x - 1, 1),
        y: place.y,
        height: bottom - place.y,
      };
      place.node = shape("rect", { class: "mark bar", ...size });
      place.x = (place.x + end) / 2;
      svg.append(place.node);
    }
  }
  return places;
}

function pad([low, high]) {
  const room = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

/** Say what is nearest to the pointer, or where the arrow keys have gone. */
function wirePointing(host, svg, spoken, places, data) {
  const tooltip = makeTooltip(host);
  const dot = shape("circle", { class: "dot", r: 5, visibility: "hidden" });
  svg.append(dot);
  let current = -1;

  function point(at) {
    places[current]?.node?.classList.remove("pointed");
    current = at;
    const place = places[at];
    if (!place) {
      tooltip.hide();
      dot.setAttribute("visibility", "hidden");
      return;
    }
    place.node?.classList.add("pointed");
    if (!place.node) {
      dot.setAttribute("cx", place.x);
      dot.setAttribute("cy", place.y);
      dot.setAttribute("visibility", "visible");
    }
    tooltip.show(describeMark(place.mark, data), place.x, place.y);
  }

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    point(nearest(places, event.clientX - box.left, event.clientY - box.top, data.kind));
  });
  svg.addEventListener("pointerleave", () => point(-1));
  svg.addEventListener("blur", () => point(-1));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") point(-1);
    if (step === undefined) return;
    event.preventDefault();
    point((Math.max(current, step > 0 ? -1 : 0) + step + places.length) % places.length);
    const said = describeMark(places[current].mark, data);
    spoken.textContent = said.map(([name, text]) => `${name} ${text}`).join(", ");
  });
}

function nearest(places, x, y, kind) {
  const [across, down] = { point: [1, 1], bar: [0, 1] }[kind] ?? [1, 0];
  let [best, least] = [-1, Infinity];
  places.forEach((place, n) => {
    const far = across * (place.x - x) ** 2 + down * (place.y - y) ** 2;
    if (far < least) [best, least] = [n, far];
  });
  return best;
}

function describeMark(mark, data) {
  if (mark.end !== undefined) {
    const write = data.across.kind === "moment" ? writeMoment : writeNumber;
    return [
      [data.xName, `${write(mark.x)} to ${write(mark.end)}`],
      [data.yName, writeNumber(mark.y)],
    ];
  }
  return [
    [data.xName, nameOf(mark, data)],
    [data.yName, writeNumber(mark.y)],
  ];
}

function nameOf(mark, data) {
  if (mark.text !== undefined) return mark.text ?? "null";
  return data.across.kind === "moment" ? writeMoment(mark.x) : writeNumber(mark.x);
}

const clip = (text) =>
  text.length > LONGEST_LABEL ? `${text.slice(0, LONGEST_LABEL - 1)}…` : text;

function shape(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function words(text, attributes) {
  const node = shape("text", attributes);
  node.textContent = text;
  return node;
}
