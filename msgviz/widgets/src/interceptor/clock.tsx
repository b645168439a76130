import { useEffect, useState } from "preact/hooks";
import { formatDuration } from "../lib";
import type { Held } from "./types";

const SOON = 10; // seconds left from which it is urgent
const arrivals = new WeakMap<Held, number>();

/** Notes when the kernel told of these: how long they have left is counted from then, by this page's clock. */
export function arrived(held: Held[]): void {
  const now = performance.now();
  for (const one of held) arrivals.set(one, now);
}

const secondsLeft = (held: Held): number =>
  Math.max(0, held.left - (performance.now() - (arrivals.get(held) ?? performance.now())) / 1000);

/** How long it is until a held message goes on by itself. */
export function Countdown({ held, words = "" }: { held: Held; words?: string }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((count) => count + 1), 500);
    return () => clearInterval(timer);
  }, []);
  const left = secondsLeft(held);
  const text = left < 60 ? `${Math.ceil(left)} s` : formatDuration(Math.ceil(left));
  return (
    <span class={`mv-interceptor-left${left <= SOON ? " mv-interceptor-soon" : ""}`} data-testid="left">
      {words}
      {text}
    </span>
  );
}
