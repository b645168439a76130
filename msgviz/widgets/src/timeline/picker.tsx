import { Button, EmptyState, ErrorLine, formatCount } from "../lib";
import { PickerFrame, PickerList, useRecent } from "../lib/picker";
import type { Conversation } from "./types";

interface Props {
  selected: string | null;
  onPick: (id: string) => void;
}

/** The newest conversations, to choose one. */
export function Picker({ selected, onPick }: Props) {
  const { recent, error, load, stale, held, watch } = useRecent<Conversation>();
  if (recent !== null && recent.items.length === 0) {
    return (
      <EmptyState>
        Nothing was observed yet. Observe a backend with <code>mv.observe(backend, log)</code>, then publish a
        message: its conversation appears here to be chosen.
      </EmptyState>
    );
  }
  return (
    <PickerFrame>
      <div class="mv-bar">
        <span class="mv-fill mv-dim">Choose a conversation; the newest first</span>
        {stale && held ? (
          <Button testid="newer" kind="quiet" onClick={load}>
            Show newer
          </Button>
        ) : null}
      </div>
      {error === null ? null : <ErrorLine>{error}</ErrorLine>}
      <PickerList items={recent?.items ?? []} selected={selected} onPick={onPick} watch={watch} testid="conversation">
        {(item) => (
          <>
            <span class="mv-picker-number">{formatCount(item.messages, "message")}</span>
            <span class="mv-timeline-bad">{item.failed > 0 ? `✕ ${item.failed} failed` : ""}</span>
            <span class="mv-code mv-dim mv-picker-name">{item.id}</span>
          </>
        )}
      </PickerList>
      {recent?.more ? (
        <div class="mv-dim mv-picker-more">There may be older ones: set timeline.message_id.</div>
      ) : null}
    </PickerFrame>
  );
}
