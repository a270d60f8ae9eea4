// Numbers and times as an operator reads them.

const NONE = "–";
const UNITS = ["B", "KB", "MB", "GB", "TB"];
const LENGTHS = [
  [1, 1, "s"],
  [1e-3, 1e3, "ms"],
  [0, 1e6, "µs"],
];
const AGES = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
];

/** 1234567 as 1.23 M, with three digits at the most. */
export function count(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 10_000) return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
  return value.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 });
}

/** A number of bytes. */
export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const step = value < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log(value) / Math.log(1024)));
  return `${(value / 1024 ** step).toLocaleString("en", { maximumSignificantDigits: 3 })} ${UNITS[step]}`;
}

/** A length of time given in seconds. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds === 0) return "0 ms";
  const [, factor, unit] = LENGTHS.find(([least]) => seconds >= least);
  const value = seconds * factor;
  return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value).toLocaleString("en")} ${unit}`;
}

/** A part of a whole. */
export function percent(value) {
  return value === null || value === undefined ? NONE : `${Math.round(value * 100)} %`;
}

/** How many times as much. */
export function times(value) {
  return value === null || value === undefined ? NONE : `${count(value)} ×`;
}

/** How long ago that was; Unix seconds. */
export function ago(at, now = Date.now() / 1_000) {
  const seconds = Math.max(0, now - at);
  const [length, unit] = AGES.find(([most]) => seconds >= most) ?? [1, "s"];
  return `${Math.floor(seconds / length)} ${unit}`;
}

/** A moment of today as a clock shows it, to the millisecond. */
export function clock(milliseconds) {
  const at = new Date(milliseconds);
  const two = (number) => String(number).padStart(2, "0");
  const thousandths = String(at.getMilliseconds()).padStart(3, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${thousandths}`;
}
