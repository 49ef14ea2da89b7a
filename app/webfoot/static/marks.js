// What a chart shows of a table: its marks, each with its place and its words.

import { evenStep, extent } from "./scale.js";
import { isMeasured, numbersOf } from "./table.js";

export const COMBINE = {
  sum: (values) => values.reduce((sum, value) => sum + value, 0),
  mean: (values) => values.reduce((sum, value) => sum + value, 0) / values.length,
  min: (values) => Math.min(...values),
  max: (values) => Math.max(...values),
};
// The y of a chart that counts rows, and what that is called.
export const ROWS = -1;
export const ROWS_NAME = "number of rows";
const MOST_BARS = 40;
const MOST_CATEGORIES = 40;
const MOST_BINS = 24;
const MOST_STEPS = 12;
const LONGEST_CATEGORY = 60;

/**
 * What to draw of a table, if anything.
 *
 * @param table The table.
 * @param {Set<number>} left Columns that say nothing in a chart, such as a geometry.
 * @returns {{kind: string, x: number, y: number, combine: string}|null}
 */
export function suggestChart(table, left) {
  const usable = table.columns.map((_, index) => index).filter((index) => !left.has(index));
  const facts = new Map(usable.map((index) => [index, describe(table, index)]));
  const measured = usable.filter((index) => isMeasured(table.columns[index]));
  const steps = measured.filter((index) => facts.get(index).steps);
  const measures = measured.filter((index) => !facts.get(index).steps);
  const y = measures[0] ?? measured[0] ?? ROWS;
  const moment = usable.find((index) => table.columns[index].kind === "moment");
  const category = usable.find((index) => facts.get(index).category);
  const of = (kind, x, up) => ({ kind, x, y: up, combine: combineFor(table, up) });
  if (moment !== undefined && y !== ROWS) return of("line", moment, y);
  if (category !== undefined) return of("bar", category, y);
  if (steps.length && measures.length) {
    return of(facts.get(steps[0]).distinct > MOST_STEPS ? "line" : "bar", steps[0], measures[0]);
  }
  if (measures.length > 1) {
    return of(facts.get(measures[0]).rises ? "line" : "point", measures[0], measures[1]);
  }
  if (measured.length) return of("histogram", y, ROWS);
  return moment === undefined ? null : of("histogram", moment, ROWS);
}

function describe(table, index) {
  const { kind } = table.columns[index];
  const distinct = new Set(table.rows.map((row) => row[index])).size;
  const repeated = distinct < table.rows.length / 2;
  const few = distinct <= MOST_CATEGORIES;
  const named = kind === "text" || kind === "boolean";
  const values = isMeasured(table.columns[index]) ? numbersOf(table, index) : [];
  return {
    distinct,
    category: named && distinct > 1 && (few || !repeated) && shortTexts(table, index),
    // A whole number with few values, such as a month, tells where and not how much.
    steps: kind === "whole" && few && repeated && distinct > 1,
    rises: values.length > 2 && values.every((value, n) => n === 0 || value > values[n - 1]),
  };
}

function shortTexts(table, index) {
  return table.rows.every((row) => (row[index] ?? "").length <= LONGEST_CATEGORY);
}

export const isOrdered = (column) => isMeasured(column) || column.kind === "moment";

/** How values that share an x become one: amounts add up, measurements have a mean. */
export function combineFor(table, y) {
  return y !== ROWS && table.columns[y].kind === "number" ? "mean" : "sum";
}

/**
 * The marks of a chart.
 *
 * A mark has `x` and `y`; a bin of a histogram also has its `end`, and a group of rows the `text`
 * that they share. `combined` says whether several rows became one mark.
 */
export function marksOf(table, { kind, x, y, combine }) {
  const across = table.columns[x];
  const yName = y === ROWS ? ROWS_NAME : table.columns[y].name;
  const facts = { kind, across, xName: across.name, yName, combined: false };
  if (kind === "histogram") {
    return { ...facts, yName: ROWS_NAME, marks: binned(across, numbersOf(table, x)) };
  }
  const heights = y === ROWS ? table.rows.map(() => 1) : numbersOf(table, y);
  if (kind === "point") {
    const marks = numbersOf(table, x).map((at, row) => ({ x: at, y: heights[row] }));
    return { ...facts, marks: marks.filter(isPlaced) };
  }
  const how = y === ROWS ? "sum" : combine;
  const { marks, shared } = grouped(table, x, heights, COMBINE[how]);
  const combined = shared && y !== ROWS;
  const told = { ...facts, combined, yName: combined ? `${how} of ${yName}` : yName };
  if (kind === "line") return { ...told, marks };
  const cut = marks.length > MOST_BARS;
  const note = cut ? `${MOST_BARS} of ${marks.length} bars are shown.` : "";
  return { ...told, marks: marks.slice(0, MOST_BARS), note };
}

const isPlaced = (mark) => Number.isFinite(mark.x) && Number.isFinite(mark.y);

/** One mark per value of column `x`: in its order if it has one, else the highest first. */
function grouped(table, x, heights, combine) {
  const groups = new Map();
  table.rows.forEach((row, number) => {
    if (!Number.isFinite(heights[number])) return;
    if (!groups.has(row[x])) groups.set(row[x], { first: number, values: [] });
    groups.get(row[x]).values.push(heights[number]);
  });
  const ordered = isOrdered(table.columns[x]);
  const places = ordered ? numbersOf(table, x) : [];
  const marks = [...groups].map(([text, { first, values }], order) => ({
    text,
    x: ordered ? places[first] : order,
    y: combine(values),
  }));
  return {
    marks: marks.filter(isPlaced).sort(ordered ? (a, b) => a.x - b.x : (a, b) => b.y - a.y),
    shared: [...groups.values()].some(({ values }) => values.length > 1),
  };
}

function binned(across, values) {
  const finite = values.filter(Number.isFinite);
  const [low, high] = extent(finite);
  const wanted = Math.min(MOST_BINS, Math.max(5, Math.ceil(2 * Math.sqrt(finite.length))));
  const step = Math.max(evenStep(high - low, wanted), across.kind === "whole" ? 1 : 0);
  const first = Math.floor(low / step);
  const bins = [];
  for (const value of finite) {
    const bin = Math.floor(value / step) - first;
    bins[bin] ??= { x: (first + bin) * step, end: (first + bin + 1) * step, y: 0 };
    bins[bin].y += 1;
  }
  return bins.filter(Boolean);
}
