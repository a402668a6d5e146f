// Draws the figures with the stylesheet's colours, and again when the colour scheme changes or the page is printed.
(() => {
  const figures = JSON.parse(document.getElementById("figures-data").textContent);
  const root = document.documentElement;
  const printWidth = 640;

  const resolve = (value, style) => {
    if (Array.isArray(value)) return value.map((item) => resolve(item, style));
    if (value === null || typeof value !== "object") return value;
    if (typeof value.var === "string") return style.getPropertyValue(value.var).trim();
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, style)]));
  };

  const axis = (style, own) => ({
    gridcolor: style.getPropertyValue("--rule").trim(),
    linecolor: style.getPropertyValue("--rule").trim(),
    zeroline: false,
    automargin: true,
    ...own,
    title: { standoff: 10, font: { size: 12 }, ...(own.title || {}) },
  });

  const layoutOf = (figure, style, width) => {
    const own = resolve(figure.layout, style);
    return {
      ...own,
      ...(width ? { width } : {}),
      autosize: !width,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style.getPropertyValue("--sans").trim(), size: 12.5, color: style.getPropertyValue("--muted").trim() },
      margin: { l: 56, r: 14, t: 12, b: 44 },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12.5 } },
      hoverlabel: {
        bgcolor: style.getPropertyValue("--raised").trim(),
        bordercolor: style.getPropertyValue("--rule").trim(),
        font: { color: style.getPropertyValue("--ink").trim() },
      },
      xaxis: axis(style, own.xaxis || {}),
      yaxis: axis(style, own.yaxis || {}),
    };
  };

  const draw = (width) => {
    const style = getComputedStyle(root);
    for (const [name, figure] of Object.entries(figures)) {
      const place = document.getElementById("figure-" + name);
      if (!place) continue;
      const config = { displayModeBar: false, responsive: !width };
      Plotly.react(place, resolve(figure.data, style), layoutOf(figure, style, width), config);
    }
  };

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
  addEventListener("beforeprint", () => {
    root.classList.add("print");
    draw(printWidth);
  });
  addEventListener("afterprint", () => {
    root.classList.remove("print");
    draw();
  });
})();
