import { useLayoutEffect, useState } from "preact/hooks";
import { Button, defineWidget, EmptyState, ErrorLine, formatCount, useModel, useShown, useTrait } from "../lib";
import { download, usePicture } from "../lib/picture";
import { Picker } from "./picker";
import "./timeline.css";
import type { Content } from "./types";

function Timeline() {
  const model = useModel();
  const [id, setId] = useTrait<string | null>("message_id");
  const [waterfall, setWaterfall] = useTrait<boolean>("waterfall");
  const [content, setContent] = useState<Content | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [picking, setPicking] = useState(false);

  useShown<Content>("content", setContent, setError);
  const pick = (chosen: string): void => {
    setPicking(false);
    setId(chosen);
  };
  const select = (of: string): void => {
    setError(null);
    model.request("select", { of }).catch((problem: Error) => setError(problem.message));
  };
  const shown = id !== null && content !== null && "picture" in content ? content : null;
  const missing = id !== null && content !== null && "missing" in content ? content.missing : null;
  return (
    <>
      {id === null ? null : (
        <div class="mv-bar mv-timeline-bar">
          <span class="mv-fill mv-timeline-said" data-testid="said">
            {shown === null ? (
              <span class="mv-code">{id}</span>
            ) : (
              <>
                {formatCount(shown.messages, "message")}, {formatCount(shown.events, "event")}
                <span class="mv-dim"> · selected #{shown.selected} </span>
                <span class="mv-code mv-dim">{shown.message_id}</span>
              </>
            )}
          </span>
          <Button testid="choose" pressed={picking} onClick={() => setPicking(!picking)}>
            Other conversation
          </Button>
          <Button testid="waterfall" pressed={waterfall} onClick={() => setWaterfall(!waterfall)}>
            Waterfall
          </Button>
          <Button testid="download" disabled={shown === null} onClick={() => download(shown?.picture ?? "", "conversation.svg")}>
            Download SVG
          </Button>
        </div>
      )}
      {error === null ? null : <ErrorLine onDismiss={() => setError(null)}>{error}</ErrorLine>}
      {id === null || picking ? <Picker selected={shown?.conversation ?? null} onPick={pick} /> : null}
      {missing === null ? null : <EmptyState testid="missing">{missing}</EmptyState>}
      {shown === null ? null : (
        <Picture
          key={`${shown.waterfall} ${shown.conversation}`}
          picture={shown.picture}
          waterfall={shown.waterfall}
          selected={shown.selected}
          onSelect={select}
        />
      )}
    </>
  );
}

const HEADS = 72; // pixels that the heads of the lifelines take

interface PictureProps {
  picture: string;
  waterfall: boolean;
  /** The number of the selected message. */
  selected: string;
  onSelect: (of: string) => void;
}

function Picture({ picture, waterfall, selected, onSelect }: PictureProps) {
  const { host, handlers } = usePicture({ svg: picture, by: "of", selected, onSelect });
  // The heads of the lifelines stay in sight.
  const follow = (): void => {
    const heads = host.current?.querySelector<SVGElement>('[data-key="heads"]');
    heads?.setAttribute("transform", `translate(0 ${host.current?.scrollTop ?? 0})`);
  };
  useLayoutEffect(follow, [picture]);
  // Whoever else selected a message wants to see it; what was clicked on is in sight, and nothing moves.
  useLayoutEffect(() => {
    const box = host.current?.getBoundingClientRect();
    const found = host.current?.querySelector(`g[data-of="${CSS.escape(selected)}"]`)?.getBoundingClientRect();
    if (host.current === null || box === undefined || found === undefined) return;
    if (found.top < box.top + HEADS || found.bottom > box.bottom) host.current.scrollTop += found.top - box.top - HEADS;
  }, [selected]);
  return (
    <div
      class={`mv-picture mv-timeline-picture${waterfall ? " mv-timeline-waterfall" : ""}`}
      data-testid="picture"
      role="group"
      aria-label="Conversation"
      ref={host}
      onScroll={follow}
      {...handlers}
    />
  );
}

export default defineWidget("timeline", Timeline);
