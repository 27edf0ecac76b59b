// The arithmetic of the page: cosines, products, and a plane to look at.

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

/** Products of each of one list of vectors with each of another. */
export function products(some, others) {
  return some.map((a) => others.map((b) => dot(a, b)));
}

/** Cosines of each vector with each. */
export function cosines(vectors) {
  const unit = vectors.map((v) => {
    const length = Math.sqrt(dot(v, v)) || 1;
    return v.map((x) => x / length);
  });
  return products(unit, unit);
}

/** Two coordinates a row whose distances are like those of the similarities (classical scaling). */
export function plane(similarities) {
  const rest = centred(similarities);
  const axes = [0, 1].map((seed) => {
    const [value, vector] = strongest(rest, seed);
    rest.forEach((row, i) => row.forEach((_, j) => { row[j] -= value * vector[i] * vector[j]; }));
    return vector.map((x) => x * Math.sqrt(Math.max(value, 0)));
  });
  return similarities.map((_, i) => [axes[0][i], axes[1][i]]);
}

function centred(matrix) {
  const mean = (row) => row.reduce((sum, x) => sum + x, 0) / row.length;
  const rows = matrix.map(mean), all = mean(rows);
  return matrix.map((row, i) => row.map((x, j) => x - rows[i] - rows[j] + all));
}

/** The largest eigenvalue of a symmetric matrix and its vector, by power iteration. */
function strongest(matrix, seed) {
  let vector = matrix.map((_, i) => Math.cos(i * (seed + 1) + 1)), value = 0;
  for (let step = 0; step < 200; step++) {
    const next = matrix.map((row) => dot(row, vector));
    value = Math.sqrt(dot(next, next));
    if (value < 1e-12) return [0, vector.map(() => 0)];
    vector = next.map((x) => x / value);
  }
  return [value, vector];
}
