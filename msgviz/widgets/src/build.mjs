// Builds one self-contained module and one stylesheet per widget into ../static.
// A widget is a folder with an index.tsx whose default export comes from defineWidget().
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const MAX_BYTES = 100_000; // a bundle is sent once for every instance of its widget

const source = dirname(fileURLToPath(import.meta.url));
const target = join(source, "..", "static");
const all = readdirSync(source).filter((name) => existsSync(join(source, name, "index.tsx"))).sort();
const named = process.argv.slice(2); // `npm run build -- table` builds only that
const widgets = named.length > 0 ? named : all;

await build({
  absWorkingDir: source,
  entryPoints: widgets.map((name) => ({ in: join(source, name, "index.tsx"), out: name })),
  outdir: target,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "utf8",
  legalComments: "none",
  logLevel: "warning",
});

for (const file of widgets.flatMap((name) => [`${name}.js`, `${name}.css`])) {
  const bytes = statSync(join(target, file)).size;
  console.log(`${file.padEnd(16)} ${(bytes / 1000).toFixed(1)} kB`);
  if (bytes > MAX_BYTES) throw new Error(`${file} is larger than ${MAX_BYTES / 1000} kB`);
}
