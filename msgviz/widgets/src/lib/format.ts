/** Numbers and times as people read them. */

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** Bytes, with three significant digits: `0 B`, `1.5 kB`. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : threeDigits(value)} ${UNITS[unit]}`;
}

/** Seconds, in the unit that fits: `12 µs`, `3.4 ms`, `1.2 s`, `4 min 5 s`, `2 h 10 min`. */
export function formatDuration(seconds: number): string {
  const size = Math.abs(seconds);
  if (size < 0.9995e-3) return `${threeDigits(seconds * 1e6)} µs`;
  if (size < 0.9995) return `${threeDigits(seconds * 1e3)} ms`;
  if (size < 59.95) return `${threeDigits(seconds)} s`;
  if (size < 3599.5) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

function threeDigits(value: number): string {
  const size = Math.abs(value);
  if (size >= 99.95) return String(Math.round(value));
  return value.toFixed(size >= 9.995 ? 1 : 2).replace(/\.?0+$/, "");
}

const two = (value: number): string => String(value).padStart(2, "0");

/** A point in time (epoch milliseconds) as local `14:03:07.123`; with `date`, `2025-01-31 14:03:07.123`. */
export function formatTime(epoch: number, date = false): string {
  const at = new Date(epoch);
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} `;
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return `${date ? day : ""}${clock}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/** `1 event`, `2 events`, `12,345 events`. */
export function formatCount(count: number, noun: string): string {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
