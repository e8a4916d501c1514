"use strict";
// What all pictures share. Each is a function in `charts`: from its data to what the page needs to draw it,
//   { option, height, tip, points, table } or { empty } where there is nothing to draw.
// `tip(seriesIndex, dataIndex)` is what hovering and the arrow keys tell: { head, rows: [[colour, label, value]] };
// `points` are the [seriesIndex, dataIndex] that the arrow keys visit; `table` is { head, rows }.

const LABELS = {
  tool: "tools, think time", queue: "queue", transfer: "transfer", prefill: "prefill", decode: "decode",
  pinned: "held for a gap", active: "running turns", in_flight: "in flight", cached: "cached", free: "free",
  kept: "kept in HBM", reloaded: "demoted, reloaded", demoted: "demoted, computed again",
  dropped: "dropped, computed again",
};
const COLOURS = {
  tool: "grey", queue: "red", transfer: "pink", prefill: "orange", decode: "blue",
  pinned: "red", active: "blue", in_flight: "pink", cached: "green", free: "grid",
  kept: "green", reloaded: "sky", demoted: "orange", dropped: "red",
};

// What all charts share: `look` has the colours of the theme by name and the width of the chart.
const base = (look) => ({
  animation: false,
  textStyle: { fontFamily: look.font, fontSize: 13, color: look.text },
  legend: {
    top: 0, left: 0, icon: "roundRect", itemWidth: 14, itemHeight: 10, itemGap: 16, selectedMode: true,
    textStyle: { color: look.text, fontSize: 13 }, inactiveColor: look.grey,
  },
});

const plain = { outerBoundsMode: "none" }; // a grid stays where it is put

const valueAxis = (look, more) => ({
  type: "value", nameLocation: "middle", nameGap: 30, nameTextStyle: { color: look.soft },
  axisLabel: { color: look.soft, hideOverlap: true }, axisLine: { show: false }, axisTick: { show: false },
  splitLine: { lineStyle: { color: look.grid } }, ...more,
});

const categoryAxis = (look, data, more) => ({
  type: "category", data, axisLabel: { color: look.text, width: 130, overflow: "truncate" },
  axisLine: { lineStyle: { color: look.line } }, axisTick: { show: false }, ...more,
});

// Where an axis of logarithms to the base of ten has its labels.
const decades = (look, low, high) => {
  const step = Math.ceil(((high - low) * 76) / look.width);
  const customValues = [];
  for (let power = Math.ceil(low - 1e-9); power <= high + 1e-9; power += step) customValues.push(power);
  return {
    min: low, max: high, axisTick: { show: false }, splitLine: { show: false },
    axisLabel: { color: look.soft, customValues, formatter: (v) => format.power(Math.round(v)) },
    axisLine: { show: true, onZero: false, lineStyle: { color: look.line } },
  };
};

// An axis of simulated time, in `unit`s; only the lowest of several names it.
const timeAxis = (look, end, { size, unit }, gridIndex = 0, lowest = true) =>
  valueAxis(look, {
    gridIndex, min: 0, max: end / size, splitLine: { show: false }, name: lowest ? unit : "", nameGap: 26,
    axisLabel: { show: lowest, color: look.soft, hideOverlap: true, showMaxLabel: false },
    axisLine: { show: true, onZero: false, lineStyle: { color: look.line } },
  });

// Zooming: drag the handles below, or hold Ctrl and turn the wheel; the page adds the keys.
const zoom = (look, xAxisIndex, bottom) => [
  { type: "inside", xAxisIndex, zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false, filterMode: "none" },
  {
    type: "slider", xAxisIndex, bottom, height: 16, filterMode: "none", showDataShadow: false, brushSelect: false,
    showDetail: false, borderColor: look.line, fillerColor: look.faint, handleSize: "120%",
    handleStyle: { color: look.card, borderColor: look.soft }, moveHandleSize: 0,
    backgroundColor: "transparent",
  },
];

const niceStep = (length, most) => {
  const power = 10 ** Math.floor(Math.log10(length / most));
  return [1, 2, 5, 10].map((digit) => digit * power).find((step) => length / step <= most);
};
const centres = (edges, size) => edges.slice(1).map((edge, i) => (edge + edges[i]) / 2 / size);
const pairs = (series, points) => Array.from({ length: points }, (_, i) => [series, i]);
const during = (edges, i) => `${format.seconds(edges[i])} to ${format.seconds(edges[i + 1])}`;
const dotted = (label, position, colour) => ({
  xAxis: position, lineStyle: { color: colour, type: "dashed", width: 1.5 },
  label: { formatter: label, color: colour, position: "end", fontSize: 12 },
});

const charts = {};
