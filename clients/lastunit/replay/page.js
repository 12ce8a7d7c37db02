// Shows the values under the pointer below each chart. The page is complete without it.
for (const figure of document.querySelectorAll("figure.chart")) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector("svg");
  const cursor = svg.querySelector(".cursor");
  const output = figure.querySelector("output");
  const left = 46, right = 10, width = 420;
  const clock = (s) => Math.floor(s / 60) + ":" + String(Math.floor(s) % 60).padStart(2, "0");
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    const seconds = ((x - left) / (width - left - right)) * data.max;
    let best = 0;
    data.x.forEach((each, index) => {
      if (Math.abs(each - seconds) < Math.abs(data.x[best] - seconds)) best = index;
    });
    const at = left + Math.min(data.x[best] / data.max, 1) * (width - left - right);
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    cursor.style.visibility = "visible";
    output.textContent = clock(data.x[best]) + "  " + data.series
      .filter((each) => each.values[best] !== null)
      .map((each) => each.label + " " + each.values[best].toLocaleString("en"))
      .join(" · ");
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", () => {
    cursor.style.visibility = "hidden";
    output.textContent = "\u00a0";
  });
}
