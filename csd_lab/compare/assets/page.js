// The page: what is chosen, and what is shown of it.

const data = JSON.parse(byId("data").textContent);
const BETWEEN = data.between;
const keyPlace = new Map(data.keys.map((key, place) => [key.name, place]));
const everyRun = data.runs.map((_, run) => run);
const chosen = {
  by: data.by, unit: data.unit, reference: data.reference, filter: "",
  sort: { name: null, down: false }, shown: new Set(data.shown), front: "groups", rows: 8, clip: "edited",
};
let view = null;

// ---- Groups --------------------------------------------------------------------------------

const cellsOf = (run, names) => names.map((name) => data.runs[run].cells[keyPlace.get(name)]);
const labelsOf = (cells, names) => names.map((name, i) => data.keys[keyPlace.get(name)].labels[cells[i]]);

const grouped = (runs, by) => {
  const groups = new Map();
  for (const run of runs) {
    const cells = cellsOf(run, by);
    const key = cells.join(",");
    const group = groups.get(key)
      ?? { cells, label: labelsOf(cells, by).join(BETWEEN) || "all runs", runs: [], unfinished: 0 };
    if (data.runs[run].state === "done") group.runs.push(run);
    else group.unfinished += 1;
    groups.set(key, group);
  }
  return [...groups.values()].sort((a, b) => compareCells(a.cells, b.cells));
};

const familyOf = (name) => [name, ...data.keys[keyPlace.get(name)].family];

/** Whether runs differ in a setting that agree in all of some others. */
const varies = (name, given) => {
  const seen = new Map(), place = keyPlace.get(name);
  return everyRun.some((run) => {
    const cells = cellsOf(run, given).join(","), cell = data.runs[run].cells[place];
    if (!seen.has(cells)) seen.set(cells, cell);
    return seen.get(cells) !== cell;
  });
};

/** Whether all groups have runs of one value of a setting. */
const isShared = (name) => {
  const values = new Map();
  for (const run of everyRun) {
    const cells = cellsOf(run, chosen.by).join(",");
    values.set(cells, (values.get(cells) ?? new Set()).add(data.runs[run].cells[keyPlace.get(name)]));
  }
  const [first, ...rest] = values.values();
  return [...first].some((cell) => rest.every((each) => each.has(cell)));
};

/** Settings in which two runs of one scene must agree to be compared. */
const matchedNames = () => {
  const told = [...chosen.by, ...chosen.unit];
  const always = data.matched.filter((name) => !familyOf(name).some((member) => told.includes(member)));
  const others = data.keys.map((key) => key.name).filter((name) => !data.matched.includes(name));
  return [...always, ...others.filter((name) => varies(name, [...told, ...always]) && isShared(name))];
};

/** Settings that differ between runs of a group that nothing tells apart: averaged over. */
const pooledNames = (matched) => {
  const given = [...chosen.by, ...chosen.unit, ...matched];
  return data.keys.map((key) => key.name).filter((name) => varies(name, given));
};

const preferredGroup = (groups) => {
  const finished = groups.filter((g) => g.runs.length);
  const score = (g) => g.label.split(BETWEEN).filter((part) => data.preferred.includes(part)).length;
  return (finished.length ? finished : groups).reduce((best, g) => (score(g) > score(best) ? g : best));
};

const valuesOf = (group, metric, names) => (
  group.runs.map((run) => [cellsOf(run, names), data.runs[run].metrics[metric]])
);

const estimateOf = (group, metric) => (
  studentEstimate(sceneMeans(valuesOf(group, metric, chosen.unit)), data.levels)
);

const differencesOf = (group, metric) => {
  const names = [...chosen.unit, ...view.matched];
  const [ours, theirs] = [group, view.reference].map((g) => sceneMeans(valuesOf(g, metric, names)));
  return pairedScenes(ours, theirs, chosen.unit.length);
};

const differenceOf = (group, metric) => (
  bootstrapEstimate(differencesOf(group, metric), data.levels, data.resamples)
);

const sceneCount = (group) => new Set(group.runs.map((run) => cellsOf(run, chosen.unit).join())).size;

// ---- Filter --------------------------------------------------------------------------------

const EQUALS = { "=": (a, b) => a === b, "!=": (a, b) => a !== b };
const ORDERED = { "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b };

const oneLine = (text) => text.replace(/\s+/g, " ");

/** A label as a filter takes it: in quotes where it would not stay one word. */
const quoted = (label) => (/[\s"\\]/.test(label) ? `"${label.replace(/["\\]/g, "\\$&")}"` : label);

const unquoted = (text) => {
  const inside = text.match(/^"(.*)"$/s);
  return (inside ? inside[1].replace(/\\(.)/gs, "$1") : text).toLowerCase();
};

/** The key that a filter names: by its whole name, or by the end of it if only one ends so. */
const namedKey = (name) => {
  if (keyPlace.has(name)) return keyPlace.get(name);
  const near = data.keys.flatMap((key, place) => (key.name.endsWith(`.${name}`) ? [place] : []));
  return near.length === 1 ? near[0] : null;
};

/** A test of runs from a filter's text; throws a sentence where it cannot be understood. */
const filterFrom = (text) => {
  const words = text.match(/[^\s"=<>!]+(?:!=|<=|>=|=|<|>)(?:"(?:\\.|[^"\\])*"|\S*)|"(?:\\.|[^"\\])*"|\S+/gs) ?? [];
  const tests = words.map((word) => {
    const parts = word.match(/^([^\s"=<>!]+)(!=|<=|>=|=|<|>)(.*)$/s);
    if (!parts) {
      const part = unquoted(word);
      return (run) => [run.name, run.state, ...run.cells.map((cell, k) => data.keys[k].labels[cell])]
        .some((label) => label.toLowerCase().includes(part));
    }
    const [, name, sign, value] = parts;
    if (name === "state") return (run) => EQUALS[sign]?.(run.state, unquoted(value)) ?? false;
    const key = namedKey(name);
    if (key === null) throw new Error(`No setting ${name} differs between these runs.`);
    const label = (run) => oneLine(data.keys[key].labels[run.cells[key]]);
    if (sign in EQUALS) return (run) => EQUALS[sign](label(run).toLowerCase(), unquoted(value));
    return (run) => ORDERED[sign](Number.parseFloat(label(run)), Number.parseFloat(value));
  });
  return (run) => tests.every((test) => test(run));
};

const filteredRuns = () => {
  const input = byId("filter"), complaint = byId("complaint");
  let test = () => true;
  try {
    test = filterFrom(chosen.filter);
    complaint.textContent = "";
  } catch (error) {
    complaint.textContent = `${error.message} The filter is not applied.`;
  }
  input.setAttribute("aria-invalid", String(Boolean(complaint.textContent)));
  return everyRun.filter((run) => test(data.runs[run]));
};

// ---- Means ---------------------------------------------------------------------------------

const ARROWS = { true: "↑", false: "↓", null: "" };
const WORDS = { true: "higher is better", false: "lower is better", null: "" };
const metricTitle = ({ name, higher }) => `${name} ${ARROWS[higher]}`.trim();
const metricHelp = ({ meaning, higher, unit }) => [meaning, unit && `Unit: ${unit}.`, WORDS[higher]]
  .filter(Boolean).join(" ");

const shownMetrics = () => data.metrics.flatMap((metric, place) => (
  chosen.shown.has(metric.name) ? [{ ...metric, place }] : []
));

const sortButton = (name, text, help, sort, onclick) => {
  const direction = sort.name === name ? (sort.down ? "descending" : "ascending") : null;
  const arrow = { ascending: " ▲", descending: " ▼" }[direction] ?? "";
  return el(
    "th", { scope: "col", "aria-sort": direction, class: name === null ? null : "number" },
    el("button", { type: "button", class: "sort", title: help, data: { focus: `sort ${name}` }, onclick }, text,
      el("span", { class: "direction", "aria-hidden": "true" }, arrow)),
  );
};

const dataOf = (estimate, name) => ({
  metric: name, mean: estimate.mean, low: estimate.low, high: estimate.high,
  scenes: estimate.scenes, runs: estimate.runs,
});

const groupCell = (group) => el(
  "th", { scope: "row", class: "group" },
  el("span", { class: "name", dir: "auto" }, swatch(group.place), el("span", {}, group.label)),
);

const bestMean = (estimates, higher) => {
  const means = estimates.map((e) => e.mean).filter((mean) => !Number.isNaN(mean));
  if (higher === null || means.length < 2) return null;
  return means.reduce((a, b) => (higher ? Math.max(a, b) : Math.min(a, b)));
};

const renderMeans = () => {
  const metrics = shownMetrics();
  const rows = view.groups.map((group) => ({
    group, scenes: sceneCount(group), estimates: metrics.map(({ place }) => estimateOf(group, place)),
  }));
  const { sort } = chosen;
  const column = metrics.findIndex(({ name }) => name === sort.name);
  if (column >= 0) {
    const value = (row) => row.estimates[column].mean;
    rows.sort((a, b) => (
      Number.isNaN(value(a)) - Number.isNaN(value(b)) || (sort.down ? value(b) - value(a) : value(a) - value(b)) || 0
    ));
  } else if (sort.down) rows.reverse();
  const best = metrics.map(({ higher }, i) => bestMean(rows.map((row) => row.estimates[i]), higher));
  const resort = (name, down) => () => {
    chosen.sort = { name, down: chosen.sort.name === name ? !chosen.sort.down : down };
    keepFocus(renderMeans);
  };
  const head = el(
    "tr", {},
    sortButton(null, chosen.by.join(BETWEEN) || "group", "Sort by group", sort, resort(null, false)),
    el("th", { scope: "col", class: "number" }, "Runs"),
    el("th", { scope: "col", class: "number" }, "Scenes"),
    metrics.map((m) => sortButton(m.name, metricTitle(m), metricHelp(m), sort, resort(m.name, m.higher !== false))),
  );
  const body = rows.map(({ group, scenes, estimates }) => el(
    "tr", { data: { group: group.label } },
    groupCell(group),
    el("td", { class: "number" }, group.unfinished ? `${group.runs.length} of ${group.runs.length + group.unfinished}` : group.runs.length),
    el("td", { class: "number" }, scenes),
    estimates.map((estimate, i) => el(
      "td", {
        class: estimate.mean === best[i] ? "number best" : "number", data: dataOf(estimate, metrics[i].name),
        title: `${plural(estimate.scenes, "scene")}, ${plural(estimate.runs, "run")}`,
      },
      meanText(estimate),
      estimate.mean === best[i] ? el("span", { class: "hidden" }, " (best)") : null,
      estimate.scenes && estimate.scenes !== scenes ? el("small", {}, ` ${plural(estimate.scenes, "scene")}`) : null,
    )),
  ));
  byId("means").replaceChildren(el("thead", {}, head), el("tbody", {}, body));
};

const renderColumns = () => {
  byId("columns").replaceChildren(...data.metrics.map((metric) => el(
    "label", { title: metricHelp(metric) },
    el("input", {
      type: "checkbox", checked: chosen.shown.has(metric.name), value: metric.name,
      onchange: (event) => {
        if (event.target.checked) chosen.shown.add(metric.name);
        else chosen.shown.delete(metric.name);
        renderMeans();
        if (byId("every-difference").open) renderEveryDifference();
      },
    }),
    metricTitle(metric),
    el("span", { class: "meaning" }, metric.meaning),
  )));
};

// ---- Paired differences --------------------------------------------------------------------

/** Whether the group is better or worse than the reference; "" if unclear, or of too few scenes. */
const verdictOf = (estimate, higher) => {
  if (higher === null || estimate.scenes < data.enough || !(estimate.low > 0 || estimate.high < 0)) return "";
  return (estimate.low > 0) === higher ? "better" : "worse";
};

const others = () => view.groups.filter((group) => group !== view.reference && group.runs.length);

const renderDifferences = () => {
  const place = Number(byId("paired-metric").value);
  const metric = data.metrics[place];
  const rows = others().map((group) => ({
    group, scenes: differencesOf(group, place), estimate: differenceOf(group, place),
  }));
  const reach = rows.reduce((most, { estimate: e }) => (
    [e.mean, e.low, e.high].filter(Number.isFinite).reduce((a, v) => Math.max(a, Math.abs(v)), most)
  ), 0) || 1;
  const body = rows.map(({ group, scenes, estimate }) => {
    const wins = scenes.filter((s) => (metric.higher === false ? s.mean < 0 : s.mean > 0)).length;
    const verdict = verdictOf(estimate, metric.higher);
    return el(
      "tr", { data: { group: group.label } },
      groupCell(group),
      el("td", { class: "picture" }, drawInterval(estimate, reach, lookOf(group.place))),
      el("td", { class: "number", data: dataOf(estimate, metric.name) }, differenceText(estimate)),
      el("td", { class: verdict }, verdict),
      el("td", {}, scenes.length ? `${metric.higher === null ? "higher" : "better"} in ${wins} of ${plural(scenes.length, "scene")}` : `no pair in common (${[...chosen.unit, ...view.matched].join(", ")})`),
    );
  });
  const heads = ["Group", `${metricTitle(metric)}, minus the reference's`, "Difference", "", "Scenes"];
  byId("differences").replaceChildren(
    el("thead", {}, el("tr", {}, heads.map((text, i) => (
      text ? el("th", { scope: "col", class: i === 2 ? "number" : null }, text) : el("td", {})
    )))),
    el("tbody", {}, body.length ? body : el("tr", {}, el("td", { colspan: 5 }, view.groups.length > 1 ? "No other group has finished runs." : "There is one group only; group by another setting to compare."))),
  );
  const few = rows.filter(({ estimate: e }) => e.scenes && e.scenes < data.enough).length;
  byId("few").textContent = few
    ? `Fewer than ${data.enough} scenes: such intervals are too short, so nothing is called better or worse. With 2, 3, 4 and 5 scenes they hold the true difference in about 49, 76, 88 and 91 % of cases.`
    : "";
};

const renderEveryDifference = () => {
  const metrics = shownMetrics();
  const body = others().map((group) => el(
    "tr", { data: { group: group.label } }, groupCell(group),
    metrics.map((metric) => {
      const estimate = differenceOf(group, metric.place);
      const verdict = verdictOf(estimate, metric.higher);
      return el("td", { class: `number ${verdict}`, data: dataOf(estimate, metric.name) }, differenceText(estimate),
        verdict ? el("span", { class: "hidden" }, ` (${verdict})`) : null);
    }),
  ));
  byId("all-differences").replaceChildren(
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Group"),
      metrics.map((m) => el("th", { scope: "col", class: "number", title: metricHelp(m) }, metricTitle(m))))),
    el("tbody", {}, body),
  );
};

// ---- Trade-off -----------------------------------------------------------------------------

const axisTitle = ({ name, higher, unit }) => (
  `${name}${unit ? ` (${unit})` : ""}${higher === null ? "" : `, ${WORDS[higher]}`}`
);

const runDetails = (run, metrics) => [
  [data.runs[run].name],
  ...data.keys.flatMap((key, k) => (key.labels.length > 1 ? [[`${key.name}: ${key.labels[data.runs[run].cells[k]]}`]] : [])),
  ...metrics.map((m) => [`${data.metrics[m].name}: ${shortText(data.runs[run].metrics[m] ?? NaN)}`]),
];

const renderTradeOff = () => {
  const places = ["x-metric", "y-metric"].map((id) => Number(byId(id).value));
  const [mx, my] = places.map((place) => data.metrics[place]);
  const higher = [mx, my].map((metric) => metric.higher ?? true);
  const groups = view.groups.map((group) => ({ ...group, x: estimateOf(group, places[0]), y: estimateOf(group, places[1]) }))
    .filter((g) => Number.isFinite(g.x.mean) && Number.isFinite(g.y.mean))
    .map((g) => ({
      ...g, id: `g${g.place}`,
      details: [[g.label, g.place], [`${mx.name}: ${meanText(g.x)}`], [`${my.name}: ${meanText(g.y)}`], [`${plural(g.x.scenes, "scene")}, ${plural(g.runs.length, "run")}`]],
    }));
  const runs = view.groups.flatMap((g) => g.runs.map((run) => ({
    id: `r${run}`, place: g.place, x: data.runs[run].metrics[places[0]], y: data.runs[run].metrics[places[1]],
    name: data.runs[run].name, details: runDetails(run, places),
  }))).filter((r) => Number.isFinite(r.x) && Number.isFinite(r.y) && r.x !== null && r.y !== null);
  const of = byId("front-of").value;
  const points = of === "runs" ? runs.map((r) => [r.x, r.y]) : groups.map((g) => [g.x.mean, g.y.mean]);
  const neutral = [mx, my].find((metric) => metric.higher === null);
  const members = neutral ? [] : paretoFront(points, ...higher).map((i) => (of === "runs" ? runs[i] : groups[i]));
  drawTradeOff(byId("trade-off"), {
    groups, runs, of, front: new Set(members.map((m) => m.id)), titles: [axisTitle(mx), axisTitle(my)], shortTitles: [metricTitle(mx), metricTitle(my)],
    higherX: higher[0], bars: groups.length <= 40,
  });
  const names = members.map((m) => (of === "runs" ? m.name : m.label));
  const list = byId("front-members");
  const none = points.length ? `No front: neither direction of ${neutral?.name} is better.` : "Nothing to show: no run has both metrics.";
  list.replaceChildren(
    members.length ? `On the front (no other is better in one and as good in the other): ` : none,
    ...names.slice(0, 30).map((name) => el("span", { class: "chip", dir: "auto" }, name)),
    names.length > 30 ? ` and ${names.length - 30} more` : "",
  );
};

// ---- Curves --------------------------------------------------------------------------------

const decoded = new Map();

/** Values of a scalar, (runs x points), from base64 of little-endian floats. */
const curvesOf = (name) => {
  if (!decoded.has(name)) {
    const bytes = Uint8Array.from(atob(data.curves.scalars[name]), (letter) => letter.charCodeAt(0));
    const view32 = new DataView(bytes.buffer);
    decoded.set(name, Float32Array.from({ length: bytes.length / 4 }, (_, i) => view32.getFloat32(4 * i, true)));
  }
  return decoded.get(name);
};

const curveOf = (group, name) => {
  const values = curvesOf(name), { steps } = data.curves;
  const scenes = group.runs.map((run) => cellsOf(run, chosen.unit));
  return steps.flatMap((step, point) => {
    const pairs = group.runs.map((run, i) => [scenes[i], values[run * steps.length + point]]);
    const estimate = studentEstimate(sceneMeans(pairs), data.levels);
    return estimate.scenes ? [{ step, ...estimate }] : [];
  });
};

const spansDecades = (points) => {
  let [low, high] = [Infinity, 0];
  for (const { mean } of points) [low, high] = [Math.min(low, mean), Math.max(high, mean)];
  return low > 0 && high > 20 * low;
};

const renderCurves = (fresh = true) => {
  const name = byId("scalar").value;
  if (!name) return;
  const groups = view.groups.map((group) => ({ ...group, points: curveOf(group, name) })).filter((g) => g.points.length);
  const log = byId("log");
  if (fresh) log.checked = spansDecades(groups.flatMap((g) => g.points));
  drawCurves(byId("curves"), { groups, title: name, log: log.checked });
  byId("curve-legend").replaceChildren(...groups.map((g) => el("span", { class: "key", dir: "auto" }, swatch(g.place), g.label)));
};

// ---- Edits ---------------------------------------------------------------------------------

let media = null;
const player = makePlayer({ play: byId("play"), place: byId("place"), time: byId("time"), speed: byId("speed") });

const pictureOf = (address, name) => {
  const picture = el("img", { alt: name, data: { run: name } });
  picture.addEventListener("load", () => picture.classList.toggle("pixels", picture.naturalWidth <= 256));
  picture.src = address;
  return picture;
};

const clipCell = (run, captions) => {
  const { address, picture } = media[run][chosen.clip] ?? {};
  const { name, state, reason, report } = data.runs[run];
  const caption = captions.length ? captions.join(", ") : null;
  const shown = state !== "done" || !address
    ? el("p", { class: "absent" }, state === "done" ? "no edit was written" : `${state}: ${reason}`)
    : picture ? pictureOf(address, name) : el("video", { playsinline: true, preload: "auto", "aria-label": name, data: { run: name } });
  if (shown.tagName === "VIDEO") player.attach(shown, address);
  const link = report ? el("a", { href: report, title: name }, caption ?? "report") : caption;
  return el("figure", {}, shown, el("figcaption", { dir: "auto" }, link));
};

const renderClips = () => {
  media ??= JSON.parse(byId("media").textContent);
  player.clear();
  const differs = (name) => data.keys[keyPlace.get(name)].labels.length > 1;
  const names = [...chosen.unit, ...view.matched].filter((name) => differs(name) && !chosen.by.includes(name));
  const extra = data.keys.filter((key) => key.labels.length > 1 && !names.includes(key.name) && !chosen.by.includes(key.name)).map((key) => key.name);
  const rows = new Map();
  for (const group of view.groups) {
    for (const run of view.runs.filter((r) => compareCells(cellsOf(r, chosen.by), group.cells) === 0)) {
      const cells = cellsOf(run, names), key = cells.join(",");
      if (!rows.has(key)) rows.set(key, { cells, runs: new Map() });
      const row = rows.get(key).runs;
      row.set(group.place, [...(row.get(group.place) ?? []), run]);
    }
  }
  const sorted = [...rows.values()].sort((a, b) => compareCells(a.cells, b.cells));
  const shown = sorted.slice(0, chosen.rows);
  const head = el("tr", {}, el("td", {}), view.groups.map((group) => groupHead(group)));
  const body = shown.map(({ cells, runs }) => el(
    "tr", {},
    el("th", { scope: "row" }, labelsOf(cells, names).map((label, i) => el("p", { dir: "auto" }, el("small", {}, names[i].split(".").at(-1)), ` ${label}`))),
    view.groups.map((group) => {
      const here = runs.get(group.place) ?? [];
      const telling = here.length > 1 ? extra.filter((name) => new Set(here.map((run) => cellsOf(run, [name])[0])).size > 1) : [];
      return el("td", {}, el("div", { class: "cell" }, here.map((run) => (
        clipCell(run, labelsOf(cellsOf(run, telling), telling).map((label, i) => `${telling[i].split(".").at(-1)} ${label}`))
      ))));
    }),
  ));
  byId("grid").replaceChildren(el("thead", {}, head), el("tbody", {}, body));
  const more = byId("more");
  more.hidden = sorted.length <= shown.length;
  more.textContent = `Show more (${shown.length} of ${sorted.length} rows)`;
};

const groupHead = (group) => el("th", { scope: "col", dir: "auto" }, el("span", { class: "name" }, swatch(group.place), el("span", {}, group.label)));

// ---- Runs ----------------------------------------------------------------------------------

const STATES = { done: "finished", failed: "failed", unreadable: "failed" };

const renderRuns = () => {
  const keys = data.keys.map((key, place) => ({ ...key, place })).filter((key) => key.labels.length > 1);
  const head = ["Run", "State", ...keys.map((key) => key.name)];
  const body = view.runs.map((run) => {
    const { name, state, reason, cells, report } = data.runs[run];
    return el(
      "tr", { data: { run: name } },
      el("th", { scope: "row", dir: "auto" }, report ? el("a", { href: report }, name) : name),
      el("td", {}, el("span", { class: `status ${STATES[state] ?? "interrupted"}`, title: reason }, state)),
      keys.map((key) => el("td", { dir: "auto" }, el("div", { class: "value" }, key.labels[cells[key.place]]))),
    );
  });
  byId("runs").replaceChildren(
    el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, body),
  );
  byId("families").replaceChildren(...keys.filter((key) => key.family.length).map((key) => (
    el("div", {}, el("dt", {}, key.name), el("dd", {}, key.family.join(", ")))
  )));
};

// ---- All together --------------------------------------------------------------------------

const keepFocus = (render) => {
  const focus = document.activeElement?.dataset?.focus;
  render();
  if (focus) document.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus();
};

const keyText = ({ name, labels }) => `${name} (${labels.length})`;

const renderControls = () => {
  const slots = chosen.by.length < 3 ? [...chosen.by, ""] : chosen.by;
  byId("by").replaceChildren(...slots.map((name, slot) => {
    const select = el("select", {
      "aria-label": slot ? "and by" : "group by", data: { focus: `by ${slot}` },
      onchange: () => {
        const by = [...chosen.by.slice(0, slot), select.value, ...chosen.by.slice(slot + 1)].filter(Boolean);
        chosen.by = [...new Set(by)];
        render();
      },
    });
    const free = data.keys.filter((key) => key.name === name || !chosen.by.includes(key.name));
    options(select, [["", slot < chosen.by.length || !slot ? "–" : "+ key"], ...free.map((key) => [key.name, keyText(key)])], name);
    return select;
  }));
  const units = new Map([[JSON.stringify(data.unit), data.unit.join(BETWEEN) || "one for all"]]);
  for (const key of data.keys) units.set(JSON.stringify([key.name]), keyText(key));
  options(byId("unit"), [...units], JSON.stringify(chosen.unit));
  options(byId("reference"), view.groups.map((g) => [g.label, g.label]), view.reference.label);
  byId("count").textContent = `${plural(view.runs.length, "run")}${view.runs.length < everyRun.length ? ` of ${everyRun.length}` : ""}, ${plural(view.groups.length, "group")}`;
  const unit = chosen.unit.join(" and ") || "no setting says which";
  const pairs = view.matched.length ? ` of the same ${view.matched.join(" and ")}` : "";
  const pooled = view.pooled.length ? ` (${view.pooled.join(", ")} too)` : "";
  byId("rules").textContent = `Means are over scenes (${unit}) with Student's 95 % interval: all runs of a scene are averaged first${pooled}, since only scenes are independent. Differences are to ${view.reference.label}, between runs of one scene${pairs}, with a 95 % bootstrap interval over scenes (${data.resamples} resamples, expanded percentile); they are not corrected for their number.`;
};

const regroup = () => {
  const all = grouped(everyRun, chosen.by);
  const placed = new Map(all.map((group, place) => [group.cells.join(","), place]));
  const kept = filteredRuns();
  const runs = kept.length ? kept : everyRun;
  if (!kept.length) byId("complaint").textContent = "No run fits the filter; all are shown.";
  const groups = grouped(runs, chosen.by).map((g) => ({ ...g, place: placed.get(g.cells.join(",")) }));
  const reference = groups.find((g) => g.label === chosen.reference) ?? preferredGroup(groups);
  const matched = matchedNames();
  view = { runs, groups, reference, matched, pooled: pooledNames(matched) };
};

const render = () => keepFocus(() => {
  regroup();
  renderControls();
  if (data.metrics.length) {
    renderMeans();
    renderDifferences();
    if (byId("every-difference").open) renderEveryDifference();
    renderTradeOff();
  }
  renderCurves();
  renderClips();
  renderRuns();
});

const metricOptions = (id, place) => {
  options(byId(id), data.metrics.map((metric, i) => [String(i), metricTitle(metric)]), String(place));
};

const start = () => {
  const [x, y] = data.axes;
  metricOptions("paired-metric", y);
  metricOptions("x-metric", x);
  metricOptions("y-metric", y);
  options(byId("scalar"), Object.keys(data.curves.scalars).map((name) => [name, name]), data.scalar);
  byId("suggestions").append(...data.keys.flatMap((key) => key.labels.slice(0, 40).map((label) => (
    el("option", { value: `${key.name}=${quoted(oneLine(label))}` })
  ))));
  for (const id of ["over-steps", "clips-section", "means-section", "paired-section", "trade-off-section"]) {
    if (byId(id).dataset.empty) byId(id).hidden = true;
  }
  const on = (id, event, then) => byId(id).addEventListener(event, then);
  on("unit", "change", () => { chosen.unit = JSON.parse(byId("unit").value); render(); });
  on("reference", "change", () => { chosen.reference = byId("reference").value; render(); });
  let waiting = 0;
  on("filter", "input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { chosen.filter = byId("filter").value; render(); }, 200);
  });
  on("paired-metric", "change", renderDifferences);
  on("every-difference", "toggle", () => { if (byId("every-difference").open) renderEveryDifference(); });
  for (const id of ["x-metric", "y-metric", "front-of"]) on(id, "change", renderTradeOff);
  on("scalar", "change", () => renderCurves());
  on("log", "change", () => renderCurves(false));
  on("which-clip", "change", () => { chosen.clip = byId("which-clip").value; renderClips(); });
  on("clip-size", "change", () => { byId("grid").dataset.size = byId("clip-size").value; });
  on("more", "click", () => { chosen.rows += 8; renderClips(); });
  renderColumns();
  render();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    if (data.metrics.length) renderTradeOff();
    renderCurves(false);
  });
};

start();
