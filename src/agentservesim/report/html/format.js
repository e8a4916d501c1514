"use strict";
// Numbers as a reader wants them; the Python side (wording.py) says them the same way.
const format = {
  number(value) {
    const size = Math.abs(value);
    if (size >= 100 || value === 0) return Math.round(value).toLocaleString("en-US");
    return String(Number(value.toPrecision(3)));
  },
  seconds(value) {
    for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
      if (Math.abs(value) >= 2 * size) return `${format.number(value / size)} ${unit}`;
    return Math.abs(value) >= 1 || value === 0 ? `${format.number(value)} s` : `${format.number(value * 1e3)} ms`;
  },
  share(value) {
    return value > 0 && value < 0.001 ? "under 0.1%" : `${format.number(value * 100)}%`;
  },
  bytes(value) {
    for (const [size, unit] of [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]])
      if (value >= size) return `${format.number(value / size)} ${unit}`;
    return `${format.number(value)} B`;
  },
  power(exponent) { // of ten seconds, for logarithmic axes
    const [size, unit] = exponent < -3 ? [-6, "µs"] : exponent < 0 ? [-3, "ms"] : [0, "s"];
    return `${(10 ** (exponent - size)).toLocaleString("en-US")} ${unit}`;
  },
  // The unit in which an axis up to `end` seconds has handy numbers.
  timeUnit(end) {
    for (const [size, unit] of [[86400, "days"], [3600, "h"], [60, "min"]])
      if (end >= 3 * size) return { size, unit };
    return { size: 1, unit: "s" };
  },
};
