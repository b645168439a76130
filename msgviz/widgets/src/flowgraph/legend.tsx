import type { ComponentChildren } from "preact";

const ROWS: [sign: ComponentChildren, text: string][] = [
  [<i class="mv-flowgraph-topic" />, "a topic, and the decorators a message passes on its way out"],
  [
    <i class="mv-flowgraph-subscription" />,
    "a subscription, and the decorators a message passes on its way in, to the receiver",
  ],
  [<i class="mv-flowgraph-dead" />, "the topic of the dead letters of a subscription"],
  [<i class="mv-flowgraph-line mv-flowgraph-now" />, "messages went there in the last 5 seconds"],
  [<i class="mv-flowgraph-line" />, "messages went there before"],
  [
    <i class="mv-flowgraph-line mv-flowgraph-none" />,
    "none yet; or “up to”: several receivers had the message that caused these, so that each may have published them",
  ],
  [<b>46 · 9.2/s</b>, "messages, failed ones included, and how many a second over the last 5 seconds"],
  [<span class="mv-flowgraph-bad">15 failed · 5 died</span>, "receives or publishes that failed; messages that used up their attempts"],
];

/** What the signs of the picture mean. */
export function Legend() {
  return (
    <dl class="mv-flowgraph-legend" data-testid="legend">
      {ROWS.map(([sign, text]) => (
        <div key={text}>
          <dt>{sign}</dt>
          <dd>{text}</dd>
        </div>
      ))}
    </dl>
  );
}
