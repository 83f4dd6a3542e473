// The statistics of csd_lab/compare/statistics.py: the same rules, the same draws, the same figures.

const compareCells = (a, b) => {
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return a[i] - b[i];
  return 0;
};

/** Means of the defined values by scene, scenes sorted; pairs are [cells of the scene, value]. */
const sceneMeans = (pairs) => {
  const scenes = new Map();
  for (const [cells, value] of pairs) {
    if (value === null || !Number.isFinite(value)) continue;
    const key = cells.join(",");
    const scene = scenes.get(key) ?? { cells, sum: 0, runs: 0 };
    scene.sum += value;
    scene.runs += 1;
    scenes.set(key, scene);
  }
  return [...scenes.values()]
    .sort((a, b) => compareCells(a.cells, b.cells))
    .map(({ cells, sum, runs }) => ({ cells, mean: sum / runs, runs }));
};

const average = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

const withoutInterval = (scenes) => ({
  mean: scenes.length ? scenes[0].mean : NaN, low: NaN, high: NaN, half: NaN,
  scenes: scenes.length, runs: scenes.reduce((sum, scene) => sum + scene.runs, 0),
});

const withInterval = (scenes, mean, low, high) => ({
  ...withoutInterval(scenes), mean, low, high, half: (high - low) / 2,
});

/** Mean over scenes with Student's interval; levels[n] is [Student's quantile, bootstrap's tail]. */
const studentEstimate = (scenes, levels) => {
  if (scenes.length < 2) return withoutInterval(scenes);
  const values = scenes.map((scene) => scene.mean);
  const mean = average(values);
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const half = levels[values.length][0] * Math.sqrt(squares / (values.length - 1) / values.length);
  return withInterval(scenes, mean, mean - half, mean + half);
};

/** A uniform 32-bit hash of a counter. */
const scramble = (counter) => {
  let h = Math.imul(counter + 1, 0x9e3779b9);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
};

const drawn = new Map();

/** The scenes of all resamples, row by row. */
const draws = (count, resamples) => {
  if (!drawn.has(count)) {
    const places = new Uint32Array(count * resamples);
    for (let i = 0; i < places.length; i += 1) {
      places[i] = Math.floor(scramble(i) * count / 4294967296);
    }
    drawn.set(count, places);
  }
  return drawn.get(count);
};

const quantile = (sorted, level) => {
  const place = level * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
};

/** Mean over scenes with the expanded percentile interval of the bootstrap. */
const bootstrapEstimate = (scenes, levels, resamples) => {
  const count = scenes.length;
  if (count < 2) return withoutInterval(scenes);
  const values = Float64Array.from(scenes, (scene) => scene.mean);
  const places = draws(count, resamples);
  const means = new Float64Array(resamples);
  for (let b = 0, i = 0; b < resamples; b += 1) {
    let sum = 0;
    for (let k = 0; k < count; k += 1, i += 1) sum += values[places[i]];
    means[b] = sum / count;
  }
  means.sort();
  const tail = levels[count][1];
  return withInterval(scenes, average(values), quantile(means, tail), quantile(means, 1 - tail));
};

/** Differences to a reference by scene, over the cells that both have; depth: cells of a scene. */
const pairedScenes = (ours, theirs, depth) => {
  const reference = new Map(theirs.map((cell) => [cell.cells.join(","), cell.mean]));
  return sceneMeans(
    ours.filter((cell) => reference.has(cell.cells.join(",")))
      .map((cell) => [cell.cells.slice(0, depth), cell.mean - reference.get(cell.cells.join(","))]),
  );
};

/** Places of the points [x, y] than which no other is better in one and as good in both. */
const paretoFront = (points, higherX, higherY) => {
  const gains = points.map(([x, y]) => [higherX ? x : -x, higherY ? y : -y]);
  const beats = ([a, b], [x, y]) => a >= x && b >= y && (a > x || b > y);
  return gains.flatMap((gain, place) => (
    gain.every(Number.isFinite) && !gains.some((other) => beats(other, gain)) ? [place] : []
  ));
};
