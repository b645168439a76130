import "./theme.css";
import { type ComponentChildren, type ComponentType, render as draw } from "preact";
import { ErrorLine } from "./controls";
import { type AnyModel, Channel, ChannelProvider, useTrait } from "./model";

/** The default export of a widget's module: draws `View` inside the frame that all widgets share. */
export function defineWidget(name: string, View: ComponentType) {
  return {
    render({ model, el }: { model: AnyModel; el: HTMLElement }): () => void {
      const channel = new Channel(model);
      draw(
        <ChannelProvider value={channel}>
          <Frame name={name}>
            <View />
          </Frame>
        </ChannelProvider>,
        el,
      );
      return () => {
        draw(null, el);
        channel.close();
      };
    },
  };
}

function Frame({ name, children }: { name: string; children: ComponentChildren }) {
  const [problem, setProblem] = useTrait<string>("_problem");
  return (
    <div class={`mv mv-${name}`} data-testid={`mv-${name}`} onFocusIn={keepShortcutsOut} onKeyDown={keepTyping}>
      {problem ? (
        <ErrorLine testid="problem" onDismiss={() => setProblem("")}>
          {problem}
        </ErrorLine>
      ) : null}
      {children}
    </div>
  );
}

/** JupyterLab's command-mode shortcuts ("d d" deletes the cell) stay out of whatever has the focus here. */
function keepShortcutsOut(event: FocusEvent): void {
  if (event.target instanceof Element) event.target.setAttribute("data-lm-suppress-shortcuts", "true");
}

/** JupyterLab forbids every line break and undo in a cell whose key press it hears of. */
function keepTyping(event: KeyboardEvent): void {
  if (event.target instanceof HTMLTextAreaElement || event.target instanceof HTMLInputElement) event.stopPropagation();
}
