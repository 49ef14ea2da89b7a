// Where the rows of a table are: well-known text, GeoJSON, or longitude and latitude.

import { isMeasured, numbersOf } from "./table.js";

const WKT = /^\s*(?:SRID=\d+;)?\s*(POINT|LINESTRING|POLYGON|MULTI\w+|GEOMETRYCOLLECTION)\b/i;
const TOKEN = /[A-Za-z]+|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[(),]/g;
const LONGITUDES = ["lon", "lng", "long", "longitude"];
const LATITUDES = ["lat", "latitude"];
// How much of a column must be places for it to be a column of places.
const ENOUGH = 0.5;

/**
 * Find the places of a table.
 *
 * A shape has `points`, `lines` and `polygons`; a polygon is its rings, a ring and a line are
 * lists of positions [x, y].
 *
 * @returns {{name: string, columns: number[], shapes: (object|null)[]}|null} One shape per row.
 */
export function findPlaces(table) {
  return findGeometry(table) ?? findPositions(table);
}

function findGeometry(table) {
  for (const [index, column] of table.columns.entries()) {
    if (isMeasured(column)) continue;
    const texts = table.rows.map((row) => row[index]);
    const first = texts.find((text) => text !== null) ?? "";
    const read = WKT.test(first) ? readWkt : first.trimStart().startsWith("{") ? readGeoJson : null;
    if (read === null) continue;
    const shapes = texts.map((text) => (text === null ? null : read(text)));
    const found = shapes.filter((shape) => shape !== null).length;
    if (found > 0 && found >= ENOUGH * texts.filter((text) => text !== null).length) {
      return { name: column.name, columns: [index], shapes };
    }
  }
  return null;
}

function findPositions(table) {
  const find = (names) =>
    table.columns.findIndex(
      (column) => isMeasured(column) && names.some((name) => isCalled(column.name, name)),
    );
  const [lon, lat] = [find(LONGITUDES), find(LATITUDES)];
  if (lon < 0 || lat < 0) return null;
  const [xs, ys] = [numbersOf(table, lon), numbersOf(table, lat)];
  const shapes = xs.map((x, row) =>
    Number.isFinite(x) && Number.isFinite(ys[row])
      ? { ...nothing(), points: [[x, ys[row]]] }
      : null,
  );
  return {
    name: `${table.columns[lon].name}, ${table.columns[lat].name}`,
    columns: [lon, lat],
    shapes,
  };
}

/** Whether a column is called `name`, alone or beside another word: pickup_lon, lon_deg. */
function isCalled(column, name) {
  return column
    .toLowerCase()
    .split(/[^a-z]+/)
    .includes(name);
}

const nothing = () => ({ points: [], lines: [], polygons: [] });

/** A shape of well-known text, or null where it is none. */
export function readWkt(text) {
  const tokens = text.replace(/^\s*SRID=\d+;/i, "").match(TOKEN) ?? [];
  const shape = nothing();
  try {
    const end = readGeometry(tokens, 0, shape);
    return end === tokens.length ? shape : null;
  } catch (error) {
    if (error instanceof NotWkt) return null;
    throw error;
  }
}

class NotWkt extends Error {}

// From `at`, the name of a geometry; returns where the next one begins.
function readGeometry(tokens, at, shape) {
  const name = (tokens[at] ?? "").toUpperCase();
  let next = at + 1;
  if (/^(Z|M|ZM)$/i.test(tokens[next] ?? "")) next += 1;
  if (/^EMPTY$/i.test(tokens[next] ?? "")) return next + 1;
  const kind = name.replace(/(ZM|Z|M)$/, "");
  if (kind === "GEOMETRYCOLLECTION") {
    return readList(tokens, next, (start) => readGeometry(tokens, start, shape));
  }
  const [items, end] = readNested(tokens, next);
  // Both ((1 2), (3 4)) and (1 2, 3 4) are written.
  const flat = kind === "MULTIPOINT" && !isPosition(items[0]) ? items.flat() : items;
  if (!add(shape, kind, flat)) throw new NotWkt(name);
  return end;
}

function readList(tokens, at, readItem) {
  if (tokens[at] !== "(") throw new NotWkt("(");
  let next = at;
  do next = readItem(next + 1);
  while (tokens[next] === ",");
  if (tokens[next] !== ")") throw new NotWkt(")");
  return next + 1;
}

/** Parentheses as lists; positions as [x, y], heights left out. */
function readNested(tokens, at) {
  const items = [];
  const end = readList(tokens, at, (start) => {
    if (tokens[start] === "(") {
      const [inner, next] = readNested(tokens, start);
      items.push(inner);
      return next;
    }
    let next = start;
    const position = [];
    while (next < tokens.length && Number.isFinite(Number(tokens[next]))) {
      position.push(Number(tokens[next]));
      next += 1;
    }
    if (position.length < 2) throw new NotWkt("position");
    items.push(position.slice(0, 2));
    return next;
  });
  return [items, end];
}

const isPosition = (item) => typeof item[0] === "number";

// Which list of a shape takes a kind of geometry, how deep its positions lie, and whether it is many.
const KINDS = {
  POINT: ["points", 1, true],
  MULTIPOINT: ["points", 1, true],
  LINESTRING: ["lines", 1, false],
  MULTILINESTRING: ["lines", 2, true],
  POLYGON: ["polygons", 2, false],
  MULTIPOLYGON: ["polygons", 3, true],
};

/** Add a geometry to a shape; false, and nothing is added, where it is none. */
function add(shape, kind, items) {
  if (!Object.hasOwn(KINDS, kind)) return false;
  const [list, depth, many] = KINDS[kind];
  if (!lieAt(items, depth)) return false;
  if (many) for (const item of items) shape[list].push(item);
  else shape[list].push(items);
  return true;
}

/** Whether positions lie `depth` lists deep and nowhere else. */
function lieAt(items, depth) {
  if (!Array.isArray(items)) return false;
  if (depth > 1) return items.every((item) => lieAt(item, depth - 1));
  return items.every(
    (item) => Array.isArray(item) && item.length >= 2 && item.every(Number.isFinite),
  );
}

/** A shape of GeoJSON, a geometry or a feature; null where it is none. */
export function readGeoJson(text) {
  try {
    const shape = nothing();
    return addGeoJson(shape, JSON.parse(text)) ? shape : null;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return null;
    throw error;
  }
}

function addGeoJson(shape, value) {
  if (value === null || typeof value !== "object") return false;
  if (value.type === "Feature") return addGeoJson(shape, value.geometry);
  const inner = value.geometries ?? value.features;
  if (Array.isArray(inner)) return inner.map((each) => addGeoJson(shape, each)).some(Boolean);
  const items = value.type === "Point" ? [value.coordinates] : value.coordinates;
  return add(shape, String(value.type).toUpperCase(), items);
}
