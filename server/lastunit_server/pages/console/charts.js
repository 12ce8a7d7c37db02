// The charts of the console: five minutes of numbers, drawn by uPlot.
// Owns the drawing. Must not know where numbers come from. Next: console.js.
"use strict";
const Charts = (() => {
  const POINTS = 300;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const all = [];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

  const build = (chart) => {
    chart.plot?.destroy();
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    const options = {
      width: chart.figure.clientWidth || 300, height: 170, cursor: { drag: { x: false, y: false } },
      legend: { live: false },
      scales: { x: { time: true, range: (_plot, _low, high) => [high - POINTS, high] }, y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, values: (_plot, splits) => splits.map(clock), space: 70 }, { ...axis, size: 60 }],
      series: [{}, ...chart.labels.map((label, index) => ({
        label, stroke: color(`--chart-${index + 1}`), width: 2, dash: index ? [8 - 2 * index, 4] : undefined,
        points: { show: false } }))],
    };
    chart.plot = new uPlot(options, chart.data, chart.figure);
  };

  const make = (parent, title, labels) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    figure.append(caption);
    parent.append(figure);
    const chart = { figure, labels, data: [[], ...labels.map(() => [])], plot: null };
    all.push(chart);
    build(chart);
    return (seconds, values) => {
      chart.data[0].push(seconds);
      values.forEach((value, index) => chart.data[index + 1].push(value));
      if (chart.data[0].length > POINTS) chart.data.forEach((row) => row.shift());
      chart.plot.setData(chart.data);
    };
  };

  const again = () => all.forEach(build);
  dark.addEventListener("change", again);
  let timer = 0;
  addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(again, 150); });
  return { make, fit: again };
})();
