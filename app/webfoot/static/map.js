// A map of a table's rows, drawn here: nothing is asked of any other server.

import { extent, linear, numberTicks, writeNumber } from "./scale.js";
import { element, isMeasured, numbersOf, shorten } from "./table.js";
import { makeTooltip } from "./tooltip.js";

const HEIGHT = 460;
const MARGIN = 28;
const POINT_SIZE = 4.5;
const NEAR = 7;
const MOST_SHOWN = 8;
const ZOOM_STEP = 1.5;
const FARTHEST_IN = 50_000;
// From low to high: light and dark enough for both themes, and apart for the colour-blind.
const RAMP = ["#e8d9a0", "#b9cf8c", "#7fbf8e", "#48a795", "#2b8a94", "#2f6a8c", "#41497c"];

/**
 * Draw the places of a table.
 *
 * @param {HTMLElement} host Emptied first.
 * @param table The table.
 * @param places What `findPlaces` found.
 * @param {{colour: number}} chosen The column that colours, -1 for none; changed by the person.
 */
export function showMap(host, table, places, chosen) {
  const left = new Set(places.columns);
  const measured = table.columns
    .map((_, index) => index)
    .filter((index) => !left.has(index) && isMeasured(table.columns[index]));
  const controls = element("form", { className: "controls" });
  const label = element("label", { textContent: "Coloured by " });
  const field = element("select");
  field.append(element("option", { value: "-1", textContent: "nothing" }));
  for (const index of measured) {
    field.append(
      element("option", { value: String(index), textContent: table.columns[index].name }),
    );
  }
  field.value = String(chosen.colour);
  label.append(field);
  const buttons = element("span", { className: "zoom" });
  const stage = element("div", { className: "map" });
  const canvas = element("canvas", { tabIndex: 0 });
  const legend = element("p", { className: "legend" });
  const count = places.shapes.filter(Boolean).length;
  canvas.setAttribute("role", "img");
  canvas.setAttribute(
    "aria-label",
    `Map of ${count} ${count === 1 ? "place" : "places"} from ${places.name}.` +
      " Arrow keys move it, plus and minus zoom, 0 shows all.",
  );
  controls.append(label, buttons);
  stage.append(canvas);
  host.replaceChildren(controls, stage, legend);

  const scene = makeScene(places.shapes);
  const tooltip = makeTooltip(stage);
  const view = { zoom: 1, x: 0, y: 0, width: 0, pointed: -1 };
  let colours = colourRows(table, chosen.colour);
  showLegend(legend, table, chosen.colour, colours);

  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw(canvas, scene, view, colours.of);
    });
  }

  function fit() {
    Object.assign(view, fitted(scene, view.width));
    redraw();
  }

  function zoom(factor, x = view.width / 2, y = HEIGHT / 2) {
    const whole = fitted(scene, view.width).zoom;
    const next = Math.min(Math.max(view.zoom * factor, whole / 2), whole * FARTHEST_IN);
    const real = next / view.zoom;
    Object.assign(view, { zoom: next, x: x - (x - view.x) * real, y: y - (y - view.y) * real });
    redraw();
  }

  function move(x, y) {
    view.x += x;
    view.y += y;
    redraw();
  }

  function point(x, y) {
    const row = rowAt(canvas, scene, view, x, y);
    if (row !== view.pointed) {
      view.pointed = row;
      redraw();
    }
    if (row < 0) tooltip.hide();
    else tooltip.show(describeRow(table, row, left), x, y);
  }

  for (const [text, name, act] of [
    ["+", "Zoom in", () => zoom(ZOOM_STEP)],
    ["−", "Zoom out", () => zoom(1 / ZOOM_STEP)],
    ["Fit", "Show all", fit],
  ]) {
    const button = element("button", { type: "button", textContent: text });
    button.setAttribute("aria-label", name);
    button.addEventListener("click", act);
    buttons.append(button);
  }
  controls.addEventListener("submit", (event) => event.preventDefault());
  field.addEventListener("change", () => {
    chosen.colour = Number(field.value);
    colours = colourRows(table, chosen.colour);
    showLegend(legend, table, chosen.colour, colours);
    redraw();
  });
  wireHands(canvas, { zoom, move, fit, point, leave: () => point(-1e9, -1e9) });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", function follow() {
    if (canvas.isConnected) redraw();
    else scheme.removeEventListener("change", follow);
  });
  new ResizeObserver(() => {
    if (stage.clientWidth === view.width || stage.clientWidth === 0) return;
    view.width = stage.clientWidth;
    resize(canvas, view.width);
    fit();
  }).observe(stage);
}

/** The shapes as paths, around the middle of all: so far from zero, paths would lose digits. */
function makeScene(shapes) {
  const [xs, ys] = [[], []];
  for (const shape of shapes) {
    eachPosition(shape, ([x, y]) => {
      xs.push(x);
      ys.push(y);
    });
  }
  const [west, east] = extent(xs);
  const [south, north] = extent(ys);
  const degrees = west >= -360 && east <= 360 && south >= -90 && north <= 90;
  const middle = { x: (west + east) / 2, y: (south + north) / 2 };
  // A degree of longitude is shorter than one of latitude, the more so towards the poles.
  const squeeze = degrees ? Math.max(Math.cos((middle.y * Math.PI) / 180), 0.05) : 1;
  const place = ([x, y]) => [(x - middle.x) * squeeze, middle.y - y];
  const rows = shapes.map((shape) => shape && makeRow(shape, place));
  return { rows, middle, squeeze, degrees, width: (east - west) * squeeze, height: north - south };
}

function eachPosition(shape, visit) {
  if (!shape) return;
  shape.points.forEach(visit);
  for (const line of shape.lines) line.forEach(visit);
  for (const polygon of shape.polygons) for (const ring of polygon) ring.forEach(visit);
}

function makeRow(shape, place) {
  const [areas, lines] = [new Path2D(), new Path2D()];
  const trace = (path, positions) =>
    positions.forEach((position, n) =>
      n ? path.lineTo(...place(position)) : path.moveTo(...place(position)),
    );
  for (const polygon of shape.polygons) {
    for (const ring of polygon) {
      trace(areas, ring);
      areas.closePath();
    }
  }
  for (const line of shape.lines) trace(lines, line);
  const corners = [];
  eachPosition(shape, (position) => corners.push(place(position)));
  return {
    areas: shape.polygons.length ? areas : null,
    lines: shape.lines.length ? lines : null,
    points: shape.points.map(place),
    x: extent(corners.map(([x]) => x)),
    y: extent(corners.map(([, y]) => y)),
  };
}

function fitted(scene, width) {
  const room = { width: width - 2 * MARGIN, height: HEIGHT - 2 * MARGIN };
  const zoom = Math.min(room.width / (scene.width || 1e-9), room.height / (scene.height || 1e-9));
  // A single point fills no map: a degree around it does.
  return { zoom: Math.min(zoom, scene.degrees ? 2e5 : 1e9), x: width / 2, y: HEIGHT / 2 };
}

function resize(canvas, width) {
  const dense = devicePixelRatio || 1;
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(HEIGHT * dense);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${HEIGHT}px`;
}

function draw(canvas, scene, view, colourOf) {
  const style = getComputedStyle(canvas);
  const look = (name) => style.getPropertyValue(name).trim();
  const brush = canvas.getContext("2d");
  const dense = canvas.width / view.width;
  brush.setTransform(dense, 0, 0, dense, 0, 0);
  brush.fillStyle = look("--surface");
  brush.fillRect(0, 0, view.width, HEIGHT);
  drawGraticule(brush, scene, view, look);
  const edge = look("--map-edge");
  scene.rows.forEach((row, number) => {
    if (row) drawRow(brush, dense, row, view, colourOf(number) ?? look("--accent"), edge);
  });
  const pointed = scene.rows[view.pointed];
  if (pointed) drawRow(brush, dense, pointed, view, look("--mark"), look("--ink"), 1.5);
}

function drawRow(brush, dense, row, view, colour, edge, wide = 0.6) {
  brush.fillStyle = colour;
  if (row.areas || row.lines) {
    const zoom = dense * view.zoom;
    brush.setTransform(zoom, 0, 0, zoom, dense * view.x, dense * view.y);
    brush.lineJoin = "round";
    if (row.areas) {
      brush.fill(row.areas, "evenodd");
      brush.strokeStyle = edge;
      brush.lineWidth = wide / view.zoom;
      brush.stroke(row.areas);
    }
    if (row.lines) {
      brush.strokeStyle = colour;
      brush.lineWidth = (wide + 1.4) / view.zoom;
      brush.stroke(row.lines);
    }
    brush.setTransform(dense, 0, 0, dense, 0, 0);
  }
  brush.strokeStyle = edge;
  brush.lineWidth = wide;
  for (const [x, y] of row.points) {
    brush.beginPath();
    brush.arc(x * view.zoom + view.x, y * view.zoom + view.y, POINT_SIZE, 0, 2 * Math.PI);
    brush.fill();
    brush.stroke();
  }
}

function drawGraticule(brush, scene, view, look) {
  const { middle, squeeze, degrees } = scene;
  const east = (x) => (x - view.x) / view.zoom / squeeze + middle.x;
  const north = (y) => middle.y - (y - view.y) / view.zoom;
  brush.strokeStyle = look("--line");
  brush.fillStyle = look("--quiet");
  brush.lineWidth = 1;
  brush.font = "11px system-ui, sans-serif";
  const line = (x1, y1, x2, y2) => {
    brush.beginPath();
    brush.moveTo(x1, y1);
    brush.lineTo(x2, y2);
    brush.stroke();
  };
  const sign = degrees ? "°" : "";
  for (const tick of numberTicks([east(0), east(view.width)], view.width / 110)) {
    const x = (tick.value - middle.x) * squeeze * view.zoom + view.x;
    line(x, 0, x, HEIGHT);
    brush.fillText(tick.text + sign, x + 4, HEIGHT - 6);
  }
  for (const tick of numberTicks([north(HEIGHT), north(0)], HEIGHT / 90)) {
    const y = (middle.y - tick.value) * view.zoom + view.y;
    line(0, y, view.width, y);
    brush.fillText(tick.text + sign, 6, y - 4);
  }
}

/** The row that is drawn uppermost at a place of the canvas, or -1. */
function rowAt(canvas, scene, view, x, y) {
  const brush = canvas.getContext("2d");
  const dense = canvas.width / view.width;
  const [mapX, mapY, near] = [(x - view.x) / view.zoom, (y - view.y) / view.zoom, NEAR / view.zoom];
  const outside = ([low, high], value) => value < low - near || value > high + near;
  for (let number = scene.rows.length - 1; number >= 0; number -= 1) {
    const row = scene.rows[number];
    if (!row || outside(row.x, mapX) || outside(row.y, mapY)) continue;
    if (row.points.some(([px, py]) => Math.hypot(px - mapX, py - mapY) < near)) return number;
    const zoom = dense * view.zoom;
    brush.setTransform(zoom, 0, 0, zoom, dense * view.x, dense * view.y);
    brush.lineWidth = near;
    if (row.areas && brush.isPointInPath(row.areas, x * dense, y * dense, "evenodd")) return number;
    if (row.lines && brush.isPointInStroke(row.lines, x * dense, y * dense)) return number;
  }
  return -1;
}

/** Mouse, fingers and keys. */
function wireHands(canvas, { zoom, move, fit, point, leave }) {
  const fingers = new Map();
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event);
    const before = fingers.get(event.pointerId);
    if (before === undefined) {
      point(now.x, now.y);
      return;
    }
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const apart = (place) => Math.hypot(place.x - other.x, place.y - other.y) || 1;
      zoom(apart(now) / apart(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else {
      move(now.x - before.x, now.y - before.y);
    }
    fingers.set(event.pointerId, now);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("pointerleave", leave);
  canvas.addEventListener("dblclick", (event) => zoom(ZOOM_STEP ** 2, at(event).x, at(event).y));
  canvas.addEventListener(
    "wheel",
    (event) => {
      // The page scrolls, unless somebody is at work on the map.
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), at(event).x, at(event).y);
    },
    { passive: false },
  );
  const keys = {
    ArrowLeft: () => move(60, 0),
    ArrowRight: () => move(-60, 0),
    ArrowUp: () => move(0, 60),
    ArrowDown: () => move(0, -60),
    "+": () => zoom(ZOOM_STEP),
    "=": () => zoom(ZOOM_STEP),
    "-": () => zoom(1 / ZOOM_STEP),
    0: fit,
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
}

/** The column that colours a map best: the first that has more than one value. */
export function suggestColour(table, places) {
  const left = new Set(places.columns);
  return table.columns.findIndex(
    (column, index) =>
      isMeasured(column) &&
      !left.has(index) &&
      new Set(table.rows.map((row) => row[index])).size > 1,
  );
}

function colourRows(table, index) {
  if (index < 0) return { of: () => undefined, low: 0, high: 0 };
  const values = numbersOf(table, index);
  const [low, high] = extent(values);
  const scale = linear([low, high], [0, 1]);
  return {
    of: (row) => (Number.isFinite(values[row]) ? mix(scale(values[row])) : undefined),
    low,
    high,
  };
}

function mix(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const [from, to] = [RAMP[Math.floor(at)], RAMP[Math.ceil(at)]];
  const part = (text, n) => Number.parseInt(text.slice(1 + 2 * n, 3 + 2 * n), 16);
  const parts = [0, 1, 2].map((n) =>
    Math.round(part(from, n) + (part(to, n) - part(from, n)) * (at % 1)),
  );
  return `rgb(${parts.join(" ")})`;
}

function showLegend(legend, table, index, { low, high }) {
  legend.hidden = index < 0;
  if (index < 0) return;
  const ramp = element("canvas", { className: "ramp", width: 140, height: 10 });
  const brush = ramp.getContext("2d");
  for (let x = 0; x < ramp.width; x += 1) {
    brush.fillStyle = mix(x / (ramp.width - 1));
    brush.fillRect(x, 0, 1, ramp.height);
  }
  const text = (content) => element("span", { textContent: content });
  legend.replaceChildren(
    text(table.columns[index].name),
    text(writeNumber(low)),
    ramp,
    text(writeNumber(high)),
  );
}

function describeRow(table, row, left) {
  const shown = table.columns
    .map((column, index) => [column, index])
    .filter(([, index]) => !left.has(index))
    .slice(0, MOST_SHOWN)
    .map(([column, index]) => [
      column.name,
      shorten(table.rows[row][index] ?? "null", column).slice(0, 80),
    ]);
  return [["row", String(row + 1)], ...shown];
}
