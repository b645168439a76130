import { useState } from "preact/hooks";
import { Button, defineWidget, EmptyState, ErrorLine, StateBadge, useShown, useTrait } from "../lib";
import { MessageId } from "../lib/message";
import "./chainview.css";
import { Picker } from "./picker";
import type { Content, Walk } from "./types";
import { Ways } from "./ways";

function ChainView() {
  const [id, setId] = useTrait<string | null>("message_id");
  const [content, setContent] = useState<Content | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [picking, setPicking] = useState(false);

  const take = (next: Content): void => {
    setError(null);
    setContent(next);
  };
  useShown<Content>("walk", take, setError);

  const pick = (chosen: string): void => {
    setPicking(false);
    setId(chosen);
  };
  const walk = content?.message_id != null && content.missing === undefined ? content : null;
  const missing = content?.message_id != null && content.missing !== undefined ? content.missing : null;
  return (
    <>
      {id === null ? null : (
        <div class="mv-bar mv-chainview-head">
          {walk === null ? <span class="mv-fill mv-code mv-message-id">{id}</span> : <Title walk={walk} />}
          <Button testid="choose" pressed={picking} onClick={() => setPicking(!picking)}>
            Other message
          </Button>
        </div>
      )}
      {error === null ? null : <ErrorLine>{error}</ErrorLine>}
      {id === null || picking ? <Picker selected={id} onPick={pick} /> : null}
      {id === null ? null : missing === null ? null : <EmptyState testid="missing">{missing}</EmptyState>}
      {id === null || walk === null ? null : <Ways key={walk.message_id} walk={walk} />}
    </>
  );
}

function Title({ walk }: { walk: Walk }) {
  return (
    <span class="mv-fill mv-message-title" data-testid="message" data-message-id={walk.message_id}>
      {walk.state === null ? null : <StateBadge state={walk.state} />}
      <bdi class="mv-message-topic">{walk.topic ?? "no topic"}</bdi>
      <MessageId id={walk.message_id} />
    </span>
  );
}

export default defineWidget("chainview", ChainView);
