"use strict";
// The pictures of comparisons and sweeps; each function is like those in charts.js.

const ARM_COLOURS = ["blue", "orange", "green", "red", "sky", "pink", "text", "soft"];
const ARM_SYMBOLS = ["circle", "rect", "triangle", "diamond"];
const armColour = (look, i) => look[ARM_COLOURS[i % ARM_COLOURS.length]];
const armSymbol = (i) => ARM_SYMBOLS[Math.floor(i / ARM_COLOURS.length) % ARM_SYMBOLS.length];
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const signed = (share) => `${share > 0 ? "+" : ""}${Number((100 * share).toPrecision(3))}%`;

charts.differences = (data, look) => {
  const { arms, rows } = data;
  if (!rows.length) return { empty: "Nothing differs by a share: there is one arm only, or nothing was served." };
  // Ratios are drawn on a logarithmic axis: half is as far from the same as twice.
  const x = (share) => Math.log(Math.max(1 + share, 0.02));
  const cells = rows.flatMap((row) => row.cells).filter(Boolean);
  const reach = Math.max(...cells.flatMap((cell) => [cell.value, cell.low ?? cell.value, cell.high ?? cell.value]).map((v) => Math.abs(x(v))), 0.005) * 1.06;
  const steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2];
  const ticks = [...steps, 0.5, 1, 2, 5, 10, 20, 50, ...[...steps, 0.3, 0.5, 0.7, 0.9].map((step) => -step)]
    .filter((share) => Math.abs(x(share)) <= reach);
  const apart = (2 * reach * 64) / look.width;
  const shown = [0];
  for (const share of ticks.sort((a, b) => Math.abs(x(b)) - Math.abs(x(a))))
    if (shown.every((other) => Math.abs(x(other) - x(share)) >= apart)) shown.push(share);
  const band = Math.max(30, 13 * arms.length + 8);
  const bar = (arm) => (params, api) => {
    const [from, to, at] = [0, 1, 2].map((i) => api.coord([api.value(i), api.value(3)]));
    const y = at[1] + (arm - (arms.length - 1) / 2) * 13;
    const style = { fill: api.visual("color"), stroke: api.visual("color"), lineWidth: 2 };
    return { type: "group", children: [
      { type: "line", shape: { x1: from[0], y1: y, x2: to[0], y2: y }, style },
      { type: "circle", shape: { cx: at[0], cy: y, r: 4.5 }, style },
    ] };
  };
  const arrows = { lower: " \u2193", higher: " \u2191" };
  const named = (row) => (row.unit === "s" ? row.place.replace(/_s\b/g, "") : row.place) + (arrows[row.better] ?? "");
  const marks = arms.map((_, k) => rows.flatMap((row, y) => {
    const cell = row.cells[k];
    return cell ? [{ value: [x(cell.low ?? cell.value), x(cell.high ?? cell.value), x(cell.value), y], row: y }] : [];
  }));
  const interval = (cell) => (cell.low === null ? signed(cell.value) : `${signed(cell.value)} (${signed(cell.low)} to ${signed(cell.high)})`);
  const left = look.narrow ? 130 : 230;
  return {
    height: 90 + band * rows.length,
    option: {
      ...base(look),
      grid: { ...plain, left, right: 30, top: 44, bottom: 46 },
      xAxis: valueAxis(look, {
        min: -reach, max: reach, name: "compared with the baseline", nameGap: 28,
        axisLabel: { color: look.soft, customValues: shown.map(x), formatter: (v) => signed(Number((Math.exp(v) - 1).toFixed(4))) },
        splitLine: { show: false },
      }),
      yAxis: categoryAxis(look, rows.map(named), {
        inverse: true, splitLine: { show: true, lineStyle: { color: look.grid } },
        axisLabel: { color: look.text, width: left - 12, overflow: "truncate" },
      }),
      tooltip: { trigger: "item" },
      series: arms.map((arm, k) => ({
        name: arm, type: "custom", renderItem: bar(k), itemStyle: { color: armColour(look, k + 1) }, clip: true,
        encode: { x: [0, 1, 2], y: 3 }, data: marks[k],
        markLine: k ? undefined : { silent: true, symbol: "none", label: { show: false }, data: [{ xAxis: 0 }],
          lineStyle: { color: look.ink, type: "solid", width: 1 } },
      })),
    },
    tip(s, i) {
      const row = rows[marks[s][i].row];
      const winner = row.winner ? `clearly best: ${row.winner}` : "no arm is clearly the best";
      return {
        head: `${row.place}${row.better ? ` (${row.better} is better)` : ""}; ${winner}`,
        rows: arms.map((arm, k) => [armColour(look, k + 1), arm, row.cells[k] ? interval(row.cells[k]) : "none"]),
      };
    },
    points: marks[0].map((_, i) => [0, i]),
    table: {
      head: ["metric", "unit", data.baseline, ...arms, "clearly best"],
      rows: rows.map((row) => [
        row.place, row.unit, String(Number(row.means[0].toPrecision(4))),
        ...row.cells.map((cell) => (cell ? interval(cell) : "none")), row.winner ?? "",
      ]),
    },
  };
};

charts.pareto = (data, look) => {
  const { points, front } = data;
  if (!points.length) return { empty: "No arm has both a latency and a throughput." };
  const at = points.map((point) => [mean(point.x) * 3600, mean(point.y)]);
  const { size, unit } = format.timeUnit(Math.max(...at.map((pair) => pair[1])));
  const place = ([x, y]) => [x, y / size];
  return {
    height: 420,
    option: {
      ...base(look),
      legend: { ...base(look).legend, icon: null, type: "scroll", data: points.map((point) => point.arm) },
      grid: { ...plain, left: 66, right: 30, top: 44, bottom: 76 },
      xAxis: valueAxis(look, { name: "programs per hour: more is better", scale: true }),
      yAxis: valueAxis(look, { name: `mean program latency, ${unit}: less is better`, nameGap: 46, scale: true }),
      dataZoom: zoom(look, [0], 4),
      tooltip: { trigger: "item" },
      series: [
        ...points.map((point, i) => ({
          name: point.arm, type: "scatter", symbol: armSymbol(i), itemStyle: { color: armColour(look, i) },
          data: [
            { value: place(at[i]), symbolSize: 15 },
            ...(point.x.length > 1 ? point.x : []).map((x, seed) => ({
              value: place([x * 3600, point.y[seed]]), symbolSize: 6, itemStyle: { opacity: 0.6 },
            })),
          ],
        })),
        {
          name: "not beaten", type: "line", silent: true, symbol: "none", data: front.map((i) => place(at[i])),
          lineStyle: { color: look.ink, type: "dashed", width: 1.5 }, z: 1,
        },
      ],
    },
    tip(s, i) {
      const point = points[s];
      const [x, y] = i ? [point.x[i - 1] * 3600, point.y[i - 1]] : at[s];
      return {
        head: `${point.arm}, ${i ? `seed ${i}` : "mean"}`,
        rows: [[armColour(look, s), "programs", `${format.number(x)}/h`], [armColour(look, s), "mean latency", format.seconds(y)]],
      };
    },
    points: points.map((_, s) => [s, 0]),
    table: {
      head: ["arm", "programs per hour", "mean program latency", "not beaten"],
      rows: points.map((point, i) => [point.arm, format.number(at[i][0]), format.seconds(at[i][1]), front.includes(i) ? "yes" : ""]),
    },
  };
};
