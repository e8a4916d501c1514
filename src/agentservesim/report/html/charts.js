"use strict";
// One function for each picture: from its data to what the page needs to draw it,
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

const charts = {
  time(data, look, state) {
    const { parts, rows } = data;
    if (!rows.length) return { empty: "No program came to its end." };
    const shares = state.choice === "shares";
    const { size, unit } = shares ? { size: 0.01, unit: "%" } : format.timeUnit(rows[0].latency_s);
    const whole = (row) => (shares ? row.values.reduce((a, b) => a + b) || 1 : 1);
    const named = (row) => (row.program ? `${row.label}  ${row.program}` : row.label);
    const flipped = [...rows].reverse(); // a category axis counts from below
    return {
      choices: { seconds: "time", shares: "shares" },
      height: 90 + 46 * rows.length,
      option: {
        ...base(look),
        grid: { ...plain, left: look.narrow ? 86 : 130, right: 24, top: look.narrow ? 54 : 34, bottom: 44 },
        xAxis: valueAxis(look, { name: unit, max: shares ? 100 : null }),
        yAxis: categoryAxis(look, flipped.map(named), {
          axisLabel: { color: look.text, width: look.narrow ? 74 : 118, overflow: "truncate" },
        }),
        series: parts.map((part, k) => ({
          name: LABELS[part], type: "bar", stack: "time", barWidth: 26,
          itemStyle: { color: look[COLOURS[part]], borderColor: look.card, borderWidth: 0.5 },
          data: flipped.map((row) => row.values[k] / whole(row) / size),
        })),
      },
      tip(_, i) {
        const row = flipped[i];
        const total = row.values.reduce((a, b) => a + b) || 1;
        return {
          head: `${named(row)}: ${format.seconds(row.latency_s)}, ${format.number(row.turns)} turns`,
          rows: parts.map((part, k) => [
            look[COLOURS[part]], LABELS[part],
            `${format.seconds(row.values[k])}, ${format.share(row.values[k] / total)}`,
          ]),
        };
      },
      points: pairs(0, rows.length).reverse(),
      table: {
        head: ["program", "latency", "turns", ...parts.map((part) => LABELS[part])],
        rows: rows.map((row) => [
          named(row), format.seconds(row.latency_s), format.number(row.turns), ...row.values.map(format.seconds),
        ]),
      },
    };
  },

  kv(data, look, state) {
    const { edges_s: edges, states, views } = data;
    const view = views[Number(state.choice || 0)];
    const { size, unit } = format.timeUnit(edges.at(-1));
    const x = centres(edges, size);
    const each = 190;
    const names = states.filter((name) => view.tiers[0].bytes[name]);
    const top = look.narrow ? 74 : 50;
    const sums = view.tiers.map((tier) => x.map((_, i) => names.reduce((sum, name) => sum + tier.bytes[name][i], 0)));
    const peaks = sums.map((sum) => Math.max(...sum, 0));
    return {
      choices: Object.fromEntries(views.map((one, i) => [i, one.label])),
      height: top + each * view.tiers.length + 14,
      option: {
        ...base(look),
        title: view.tiers.map((tier, i) => ({
          text: `${tier.name}: ${format.bytes(tier.size_bytes)}`, left: 0, top: top - 24 + each * i,
          textStyle: { fontSize: 13, fontWeight: 600, color: look.text },
        })),
        grid: view.tiers.map((_, i) => ({ ...plain, left: 62, right: 24, top: top + each * i, height: each - 62 })),
        axisPointer: { link: [{ xAxisIndex: "all" }], lineStyle: { color: look.soft } },
        xAxis: view.tiers.map((_, i) =>
          timeAxis(look, edges.at(-1), { size, unit }, i, i === view.tiers.length - 1)),
        yAxis: view.tiers.map((tier, i) =>
          valueAxis(look, {
            gridIndex: i, max: Math.max(Math.min(tier.size_bytes, peaks[i] * 1.15), peaks[i]) || 1, splitNumber: 3,
            axisLabel: { color: look.soft, formatter: format.bytes, showMaxLabel: false },
          })),
        dataZoom: zoom(look, view.tiers.map((_, i) => i), 4),
        tooltip: { trigger: "axis" },
        series: view.tiers.flatMap((tier, i) =>
          names.map((name) => ({
            name: LABELS[name], type: "line", stack: `tier ${i}`, xAxisIndex: i, yAxisIndex: i, symbol: "none",
            lineStyle: { width: name === "pinned" ? 1.5 : 0, color: look[COLOURS[name]] },
            itemStyle: { color: look[COLOURS[name]] },
            areaStyle: { opacity: name === "pinned" ? 1 : 0.62, color: look[COLOURS[name]] },
            data: x.map((time, bin) => [time, tier.bytes[name][bin]]),
          }))),
      },
      tip(_, i) {
        const of = (tier, name) =>
          `${format.bytes(tier.bytes[name][i])}, ${format.share(tier.bytes[name][i] / tier.size_bytes)}`;
        return {
          head: during(edges, i),
          rows: view.tiers.flatMap((tier) =>
            names.map((name) => [look[COLOURS[name]], `${tier.name}: ${LABELS[name]}`, of(tier, name)])),
        };
      },
      points: pairs(0, x.length),
      table: {
        head: ["time", ...view.tiers.flatMap((tier) => names.map((name) => `${tier.name}: ${LABELS[name]}`))],
        rows: x.map((_, i) => [
          during(edges, i),
          ...view.tiers.flatMap((tier) => names.map((name) => format.bytes(tier.bytes[name][i]))),
        ]),
      },
    };
  },

  gaps(data, look, state) {
    const edges = data.edges_s.map(Math.log10);
    if (!edges.length) return { empty: "No gap was followed by a turn that could reuse KV." };
    const choice = state.choice || "gaps";
    const counts = choice === "gaps" ? data.gaps : data.tokens;
    const names = Object.keys(counts);
    const sums = edges.slice(1).map((_, i) => names.reduce((sum, name) => sum + counts[name][i], 0) || 1);
    const scale = (value, i) => (choice === "shares" ? (100 * value) / sums[i] : value);
    const lines = [];
    if (data.ttl_s) lines.push(dotted(`TTL ${format.seconds(data.ttl_s)}`, Math.log10(data.ttl_s), look.ink));
    if (data.cut)
      lines.push(dotted(`best cut ${format.seconds(data.cut.gap_s)}`, Math.log10(data.cut.gap_s), look.ink));
    if (lines.length === 2) {
      const first = lines[0].xAxis < lines[1].xAxis;
      lines[0].label.align = first ? "right" : "left";
      lines[1].label.align = first ? "left" : "right";
    }
    const label = (i) => `${format.seconds(data.edges_s[i])} to ${format.seconds(data.edges_s[i + 1])}`;
    return {
      choices: { gaps: "gaps", tokens: "tokens", shares: "shares of tokens" },
      height: 360,
      option: {
        ...base(look),
        grid: { ...plain, left: 62, right: 24, top: look.narrow ? 100 : 62, bottom: 76 },
        xAxis: valueAxis(look, { name: "length of the gap", ...decades(look, edges[0], edges.at(-1)) }),
        yAxis: valueAxis(look, {
          max: choice === "shares" ? 100 : null,
          axisLabel: { color: look.soft, formatter: choice === "tokens" ? (v) => format.bytes(v).replace("B", "") : "{value}" },
          name: { gaps: "gaps", tokens: "tokens", shares: "% of tokens" }[choice], nameGap: 44,
        }),
        dataZoom: zoom(look, [0], 4),
        tooltip: { trigger: "axis", axisPointer: { type: "none" } },
        series: names.map((name, k) => ({
          name: LABELS[name], type: "bar", stack: "gaps",
          barWidth: Math.max(3, ((look.width - 86) / sums.length) * 0.86),
          itemStyle: { color: look[COLOURS[name]], borderColor: look.card, borderWidth: 0.5 },
          data: counts[name].map((value, i) => [(edges[i] + edges[i + 1]) / 2, scale(value, i)]),
          markLine: k ? undefined : { silent: true, symbol: "none", data: lines },
        })),
      },
      tip(_, i) {
        return {
          head: `gaps of ${label(i)}`,
          rows: names.map((name) => [
            look[COLOURS[name]], LABELS[name],
            `${format.number(data.gaps[name][i])} gaps, ${format.number(data.tokens[name][i])} tokens`,
          ]),
        };
      },
      points: pairs(0, sums.length),
      table: {
        head: ["gap", ...names.map((name) => `${LABELS[name]} (gaps)`), ...names.map((name) => `${LABELS[name]} (tokens)`)],
        rows: sums.map((_, i) => [
          label(i),
          ...[data.gaps, data.tokens].flatMap((what) => names.map((name) => format.number(what[name][i]))),
        ]),
      },
      caption: data.cut &&
        `The best cut is right for ${format.share(data.cut.right)} of the gaps. Policy: ${data.policy}.`,
    };
  },

  latency(data, look, _, page) {
    const curves = data.filter((curve) => curve.n);
    if (!curves.length) return { empty: "No turn was served." };
    const colours = { "turn.ttft_s": look.red, "turn.tpot_s": look.blue, "program.latency_s": look.green };
    const low = Math.floor(Math.log10(Math.min(...curves.flatMap((c) => c.values_s.filter((v) => v > 0)))));
    const high = Math.ceil(Math.log10(Math.max(...curves.flatMap((c) => c.values_s))));
    const x = (value) => Math.log10(Math.max(value, 10 ** low));
    const at = (quantile) => `p${Number((quantile * 100).toPrecision(4))}`;
    return {
      height: 380,
      option: {
        ...base(look),
        legend: { ...base(look).legend, data: curves.map((c) => ({ name: c.label, itemStyle: { opacity: 1 } })) },
        grid: { ...plain, left: 62, right: 30, top: 50, bottom: 76 },
        xAxis: valueAxis(look, { name: "at most so long (logarithmic)", ...decades(look, low, high) }),
        yAxis: valueAxis(look, { min: 0, max: 100, name: "% of turns, programs", nameGap: 40 }),
        dataZoom: zoom(look, [0], 4),
        tooltip: { trigger: "item" },
        series: curves.map((curve) => ({
          name: curve.label, type: "line", symbol: "circle", symbolSize: 5, showAllSymbol: true,
          lineStyle: { width: 2.5, color: colours[curve.metric] },
          itemStyle: { color: colours[curve.metric], opacity: 0 }, emphasis: { itemStyle: { opacity: 1 } },
          data: curve.values_s.map((value, i) => [x(value), page.quantiles[i] * 100]),
          markLine: {
            silent: true, symbol: "none",
            data: page.verdict.lines.filter((line) => line.metric === curve.metric)
              .map((line) => dotted(line.text, x(line.bound_s), colours[curve.metric])),
          },
        })),
      },
      tip(s, i) {
        return {
          head: `${curves[s].label}, ${at(page.quantiles[i])}`,
          rows: [[colours[curves[s].metric], `of ${format.number(curves[s].n)}`, format.seconds(curves[s].values_s[i])]],
        };
      },
      points: curves.flatMap((curve, s) => pairs(s, curve.values_s.length)),
      table: {
        head: ["", "n", ...[50, 90, 95, 99, 100].map((p) => `p${p}`)],
        rows: curves.map((curve) => [
          curve.label, format.number(curve.n),
          ...[0.5, 0.9, 0.95, 0.99, 1].map((q) => format.seconds(curve.values_s[page.quantiles.indexOf(q)])),
        ]),
      },
    };
  },

  load(data, look) {
    const { edges_s: edges, instances } = data;
    const { size, unit } = format.timeUnit(edges.at(-1));
    const columns = centres(edges, size);
    const step = niceStep(edges.at(-1) / size, look.narrow ? 4 : 8);
    const tick = (i) => Math.ceil(edges[i] / size / step - 1e-9) * step; // the first at or after the bin's start
    const ticked = (i) => tick(i) < edges[i + 1] / size - 1e-9;
    const maps = [
      { name: "turns waiting", rows: data.waiting, ramp: [look.orange, look.red], show: format.number },
      { name: "HBM in use", rows: data.kv, ramp: [look.sky, look.blue], show: format.share },
    ].map((map) => ({ ...map, full: Math.max(...map.rows.flat(), 1), ramp: [look.card, ...(look.dark ? map.ramp.reverse() : map.ramp)] }));
    const row = Math.max(16, Math.min(34, 260 / instances.length));
    const each = 34 + row * instances.length + 38;
    const left = look.narrow ? 84 : 120;
    return {
      height: each * 2,
      option: {
        ...base(look), legend: { show: false },
        title: maps.map((map, i) => ({
          text: map.name, left: 0, top: each * i, textStyle: { fontSize: 13, fontWeight: 600, color: look.text },
        })),
        grid: maps.map((_, i) => ({ ...plain, left, right: 24, top: 30 + each * i, height: row * instances.length })),
        xAxis: maps.map((_, i) =>
          categoryAxis(look, columns, {
            gridIndex: i, name: unit, nameLocation: "end", nameGap: 4, nameTextStyle: { color: look.soft },
            axisLabel: { color: look.soft, interval: ticked, formatter: (_, i) => format.number(Math.abs(tick(i))) },
          })),
        yAxis: maps.map((_, i) =>
          categoryAxis(look, instances, { gridIndex: i, inverse: true, axisLabel: { color: look.text, width: left - 10, overflow: "truncate" } })),
        tooltip: { trigger: "item" },
        visualMap: maps.map((map, i) => ({
          type: "continuous", seriesIndex: i, min: 0, max: map.full, calculable: false,
          orient: "horizontal", right: 24, top: each * i - 2, itemWidth: 10, itemHeight: 90,
          inRange: { color: map.ramp }, textStyle: { color: look.soft },
          text: [map.show(map.full), "0"],
        })),
        series: maps.map((map, i) => ({
          name: map.name, type: "heatmap", xAxisIndex: i, yAxisIndex: i, progressive: 0,
          emphasis: { itemStyle: { borderColor: look.ink, borderWidth: 1.5 } },
          data: map.rows.flatMap((values, y) => values.map((value, x) => [x, y, value])),
        })),
      },
      tip(s, i) {
        const [x, y] = [i % columns.length, Math.floor(i / columns.length)];
        return {
          head: `${instances[y]}, ${during(edges, x)}`,
          rows: maps.map((map) => [map.ramp[2], map.name, map.show(map.rows[y][x])]),
        };
      },
      points: pairs(0, columns.length * instances.length),
      table: {
        head: ["instance", "waiting, mean", "waiting, most", "HBM, mean", "HBM, most"],
        rows: instances.map((name, y) => [
          name, ...maps.flatMap((map) => [
            map.show(map.rows[y].reduce((a, b) => a + b, 0) / columns.length), map.show(Math.max(...map.rows[y])),
          ]),
        ]),
      },
    };
  },

  links(data, look) {
    if (!data.links.some((link) => link.bytes)) return { empty: "Nothing was moved over a link." };
    const { edges_s: edges, links } = data;
    const { size, unit } = format.timeUnit(edges.at(-1));
    const x = centres(edges, size);
    const names = [...new Set(links.map((link) => link.link))];
    const each = 170;
    const colour = (link) => (link.direction === "up" ? look.blue : look.orange);
    const rate = (value) => `${format.bytes(Math.abs(value))}/s`;
    return {
      height: 50 + each * names.length + 14,
      option: {
        ...base(look),
        title: names.map((name, i) => ({
          text: name, left: 0, top: 26 + each * i, textStyle: { fontSize: 13, fontWeight: 600, color: look.text },
        })),
        grid: names.map((_, i) => ({ ...plain, left: 76, right: 24, top: 50 + each * i, height: each - 62 })),
        xAxis: names.map((_, i) => timeAxis(look, edges.at(-1), { size, unit }, i, i === names.length - 1)),
        yAxis: names.map((_, i) =>
          valueAxis(look, { gridIndex: i, splitNumber: 4, axisLabel: { color: look.soft, formatter: rate } })),
        dataZoom: zoom(look, names.map((_, i) => i), 4),
        tooltip: { trigger: "axis" },
        series: links.map((link) => ({
          name: link.direction === "up" ? "up, to HBM" : "down, from HBM", type: "line", symbol: "none", step: "middle",
          xAxisIndex: names.indexOf(link.link), yAxisIndex: names.indexOf(link.link),
          lineStyle: { width: 1, color: colour(link) }, itemStyle: { color: colour(link) },
          areaStyle: { opacity: 0.75, color: colour(link) },
          data: link.rate.map((value, i) => [x[i], link.direction === "up" ? value : -value]),
        })),
      },
      tip(_, i) {
        return {
          head: during(edges, i),
          rows: links.map((link) => [colour(link), `${link.link} ${link.direction}`, rate(link.rate[i])]),
        };
      },
      points: pairs(0, x.length),
      table: {
        head: ["link", "direction", "bytes", "busy", "copies", "mean wait for the link"],
        rows: links.map((link) => [
          link.link, link.direction, format.bytes(link.bytes), format.share(link.busy), format.number(link.copies),
          link.waited_s === null ? "none" : format.seconds(link.waited_s),
        ]),
      },
    };
  },

  slowest(data, look) {
    const { parts, rows } = data;
    if (!rows.length) return { empty: "No program came to its end." };
    const { size, unit } = format.timeUnit(rows[0].latency_s);
    const flipped = [...rows].reverse();
    const marks = parts.map(() => []);
    flipped.forEach((row, y) =>
      row.segments.forEach(([lane, part, start, end]) => marks[part].push([start / size, end / size, y, lane, row.lanes])));
    const bar = (params, api) => {
      const [lane, lanes] = [api.value(3), api.value(4)];
      const [x, y] = api.coord([api.value(0), api.value(2)]);
      const band = api.size([0, 1])[1] * 0.74;
      const height = band / lanes;
      const right = api.coord([api.value(1), 0])[0];
      const area = params.coordSys;
      const shape = echarts.graphic.clipRectByRect(
        { x, y: y - band / 2 + lane * height, width: Math.max(right - x, 0.4), height: Math.max(height - 1, 1) },
        { x: area.x, y: area.y, width: area.width, height: area.height });
      return shape && { type: "rect", shape, style: { fill: api.visual("color") } };
    };
    const named = (row) => row.program;
    return {
      height: 110 + 40 * rows.length,
      option: {
        ...base(look),
        grid: { ...plain, left: look.narrow ? 86 : 130, right: 24, top: look.narrow ? 54 : 34, bottom: 70 },
        xAxis: timeAxis(look, rows[0].latency_s, { size, unit: `${unit} since its arrival` }),
        yAxis: categoryAxis(look, flipped.map(named), {
          axisLabel: { color: look.text, width: look.narrow ? 74 : 118, overflow: "truncate" },
        }),
        dataZoom: zoom(look, [0], 4),
        tooltip: { trigger: "item" },
        series: parts.map((part, k) => ({
          name: LABELS[part], type: "custom", renderItem: bar, itemStyle: { color: look[COLOURS[part]] },
          encode: { x: [0, 1], y: 2 }, data: marks[k], progressive: 0,
        })),
      },
      tip(s, i) {
        const [start, end, y] = marks[s][i];
        return {
          head: `${named(flipped[y])}: ${format.seconds(flipped[y].latency_s)}, ${format.number(flipped[y].turns)} turns`,
          rows: [[look[COLOURS[parts[s]]], LABELS[parts[s]],
            `${format.seconds((end - start) * size)}, from ${format.seconds(start * size)} on`]],
        };
      },
      points: marks.flatMap((list, s) => list.map((mark, i) => [s, i, mark[2], mark[0]]))
        .sort((a, b) => b[2] - a[2] || a[3] - b[3]).map(([s, i]) => [s, i]),
      table: {
        head: ["program", "kind", "latency", "turns"],
        rows: rows.map((row) => [row.program, row.kind, format.seconds(row.latency_s), format.number(row.turns)]),
      },
    };
  },
};
