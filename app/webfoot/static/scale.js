// Axes: where their ticks are, and how a value is written there.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const MONTH = 30.44 * DAY;
const YEAR = 365.25 * DAY;
// Even steps of time, and how a moment is written when ticks are so far apart.
const TIME_STEPS = [
  [SECOND, "second"],
  [5 * SECOND, "second"],
  [15 * SECOND, "second"],
  [30 * SECOND, "second"],
  [MINUTE, "minute"],
  [5 * MINUTE, "minute"],
  [15 * MINUTE, "minute"],
  [30 * MINUTE, "minute"],
  [HOUR, "minute"],
  [3 * HOUR, "minute"],
  [6 * HOUR, "minute"],
  [12 * HOUR, "minute"],
  [DAY, "day"],
  [2 * DAY, "day"],
  [7 * DAY, "day"],
  [14 * DAY, "day"],
  [MONTH, "month"],
  [3 * MONTH, "month"],
  [6 * MONTH, "month"],
  [YEAR, "year"],
  [2 * YEAR, "year"],
  [5 * YEAR, "year"],
  [10 * YEAR, "year"],
  [25 * YEAR, "year"],
  [100 * YEAR, "year"],
  [1000 * YEAR, "year"],
];
const TEXT_OF = {
  second: (iso) => iso.slice(11, 19),
  minute: (iso) => `${iso.slice(5, 10)} ${iso.slice(11, 16)}`,
  day: (iso) => iso.slice(0, 10),
  month: (iso) => iso.slice(0, 7),
  year: (iso) => iso.slice(0, iso.lastIndexOf("-") - 3),
};

/** A linear scale from `domain` to `range`. */
export function linear([low, high], [start, end]) {
  const span = high - low || 1;
  return (value) => start + ((value - low) / span) * (end - start);
}

/** The smallest and the largest finite value; [0, 1] if there is none. */
export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high && value < Infinity) high = value;
  }
  return low <= high && low > -Infinity ? [low, high] : [0, 1];
}

/** An even step, 1, 2 or 5 times a power of ten, that makes about `count` parts of `span`. */
export function evenStep(span, count) {
  const rough = (span || 1) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((each) => each * power >= rough * 0.999);
  return factor * power;
}

/**
 * Ticks of an axis of numbers.
 *
 * @returns {{value: number, text: string}[]}
 */
export function numberTicks([low, high], count) {
  const step = evenStep(high - low, count);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) {
    const value = Number((n * step).toFixed(Math.min(digits, 20)));
    ticks.push({ value, text: writeTick(value, digits) });
    if (ticks.length > 200) break;
  }
  return ticks;
}

function writeTick(value, digits) {
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-6)) return value.toExponential(1);
  if (size >= 1e5) return compact.format(value);
  return value.toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

/** Ticks of an axis of moments, in ms since 1970, written in UTC. */
export function timeTicks([low, high], count) {
  const rough = (high - low || DAY) / Math.max(count, 1);
  const [step, unit] = TIME_STEPS.find(([size]) => size >= rough) ?? TIME_STEPS.at(-1);
  const ticks = [];
  for (let at = firstMoment(low, step, unit); at <= high; at = nextMoment(at, step, unit)) {
    ticks.push({ value: at, text: TEXT_OF[unit](new Date(at).toISOString()) });
    if (ticks.length > 50) break;
  }
  return ticks.length ? ticks : [{ value: low, text: writeMoment(low) }];
}

function firstMoment(low, step, unit) {
  if (unit === "year") return jumpYears(low, Math.round(step / YEAR));
  if (unit === "month") return jumpMonths(low, Math.round(step / MONTH));
  return Math.ceil(low / step) * step;
}

// Midnight of the first of January, or of a month, from which all others are counted.
function jumpYears(low, years) {
  const from = (year) => new Date(0).setUTCFullYear(year, 0, 1);
  const year = Math.floor(new Date(low).getUTCFullYear() / years) * years;
  return from(year) >= low ? from(year) : from(year + years);
}

function jumpMonths(low, months) {
  const from = (month) => new Date(0).setUTCFullYear(0, month, 1);
  const moment = new Date(low);
  const month = Math.floor((moment.getUTCFullYear() * 12 + moment.getUTCMonth()) / months) * months;
  return from(month) >= low ? from(month) : from(month + months);
}

function nextMoment(at, step, unit) {
  const moment = new Date(at);
  const [years, months] = [Math.round(step / YEAR), Math.round(step / MONTH)];
  if (unit === "year") return moment.setUTCFullYear(moment.getUTCFullYear() + years);
  if (unit === "month") return moment.setUTCMonth(moment.getUTCMonth() + months);
  return at + step;
}

/** A moment as people write it, without what is zero. */
export function writeMoment(ms) {
  const iso = new Date(ms).toISOString();
  return iso.endsWith("T00:00:00.000Z") ? iso.slice(0, 10) : iso.slice(0, 19).replace("T", " ");
}

/** A number with a few digits, for a tooltip. */
export function writeNumber(value) {
  if (!Number.isFinite(value)) return "none";
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-4)) return value.toExponential(3);
  return value.toLocaleString("en", { maximumFractionDigits: size >= 100 ? 2 : 4 });
}
