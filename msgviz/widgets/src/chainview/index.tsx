import { useEffect, useState } from "preact/hooks";
import {
  Button,
  CopyButton,
  defineWidget,
  EmptyState,
  ErrorLine,
  StateBadge,
  useMessages,
  useModel,
  useTrait,
} from "../lib";
import "./chainview.css";
import { Picker } from "./picker";
import type { Content, Walk } from "./types";
import { Ways } from "./ways";

function ChainView() {
  const model = useModel();
  const [id, setId] = useTrait<string | null>("message_id");
  const [content, setContent] = useState<Content | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [picking, setPicking] = useState(false);

  const take = (next: Content): void => {
    setError(null);
    setContent(next);
  };
  useMessages<{ value: Content }>("walk", ({ value }) => take(value));
  useEffect(() => {
    model
      .request<Content>("show")
      .then(take)
      .catch((problem: Error) => setError(problem.message));
  }, [model]);

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
          {walk === null ? <span class="mv-fill mv-code mv-chainview-id">{id}</span> : <Title walk={walk} />}
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
    <span class="mv-fill mv-chainview-title" data-testid="message" data-message-id={walk.message_id}>
      {walk.state === null ? null : <StateBadge state={walk.state} />}
      <bdi class="mv-chainview-topic">{walk.topic ?? "no topic"}</bdi>
      <span class="mv-chainview-id">
        <span class="mv-code">{walk.message_id}</span>
        <CopyButton text={walk.message_id} testid="copy-id" label="Copy the message id" />
      </span>
    </span>
  );
}

export default defineWidget("chainview", ChainView);
