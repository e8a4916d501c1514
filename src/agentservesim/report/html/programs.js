"use strict";
// The pictures of programs and turns. Each function is like charts.js says.

Object.assign(charts, {
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
});
