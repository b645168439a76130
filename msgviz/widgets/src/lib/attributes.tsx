/** The attribute that carries the identity of an observed message: shown, but never the person's own. */
export const ID_ATTRIBUTE = "Msgviz-Id";

/** Attributes as `key  value` lines, a key with several values once; msgviz's own come last, dimmed. */
export function AttributeList({ attributes }: { attributes: Record<string, string[]> }) {
  const keys = Object.keys(attributes).sort(
    (a, b) => Number(a === ID_ATTRIBUTE) - Number(b === ID_ATTRIBUTE) || (a < b ? -1 : 1),
  );
  if (keys.length === 0) return <div class="mv-dim">No attributes.</div>;
  return (
    <dl class="mv-attributes" data-testid="attributes">
      {keys.map((key) => (
        <div key={key} class={key === ID_ATTRIBUTE ? "mv-dim" : ""} data-attribute={key}>
          <dt>{key}</dt>
          <dd>
            {(attributes[key] ?? []).map((value, index) => (
              <span key={index}>{value === "" ? <i class="mv-dim">empty</i> : value}</span>
            ))}
          </dd>
        </div>
      ))}
    </dl>
  );
}
