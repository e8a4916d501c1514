"use strict";
// The pictures of memory and load over time. Each function is like charts.js says.

Object.assign(charts, {
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
});
