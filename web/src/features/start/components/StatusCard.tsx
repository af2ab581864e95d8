import { Button } from "../../../components/ui/Button";
import { Card } from "../../../components/ui/Card";
import { Skeleton } from "../../../components/ui/Skeleton";
import type { MessageKey } from "../../../lib/i18n/en";
import { useI18n } from "../../../lib/i18n/I18nProvider";
import type { ReadinessState } from "../api/readiness";
import { type Check, sortChecks } from "../model";

type Look = { label: MessageKey; text?: MessageKey; pill: string; dot: string };

function look(state: ReadinessState): Look {
  if (state.kind === "checking") return { label: "start.status.checking", pill: "bg-sunken text-soft", dot: "bg-soft" };
  if (state.kind === "unreachable") {
    return {
      label: "start.status.unreachable",
      text: "start.status.unreachableText",
      pill: "bg-bad-soft text-bad",
      dot: "bg-bad",
    };
  }
  if (state.readiness.ready) {
    return {
      label: "start.status.ready",
      text: "start.status.readyText",
      pill: "bg-good-soft text-good",
      dot: "bg-good",
    };
  }
  return {
    label: "start.status.starting",
    text: "start.status.startingText",
    pill: "bg-warn-soft text-warn",
    dot: "bg-warn motion-safe:animate-pulse",
  };
}

export function StatusCard({ state, onRetry }: { state: ReadinessState; onRetry: () => void }) {
  const { t, formatTime } = useI18n();
  const { label, text, pill, dot } = look(state);
  const time = state.kind === "checking" ? "" : formatTime(state.at);
  return (
    <Card
      title={t("start.status")}
      aside={
        <span
          role="status"
          className={`inline-flex items-center gap-2 rounded-full px-3 py-1 text-sm font-semibold ${pill}`}
        >
          <span className={`size-2 rounded-full ${dot}`} aria-hidden="true" />
          {t(label)}
        </span>
      }
    >
      {text !== undefined && <p className="text-sm text-soft">{t(text)}</p>}
      {state.kind === "checking" && <Skeleton lines={5} label={t("start.status.checking")} />}
      {state.kind === "known" && (
        <>
          <h3 className="mt-5 text-xs font-semibold tracking-wide text-soft uppercase">{t("start.parts")}</h3>
          <CheckList checks={state.readiness.checks} />
        </>
      )}
      <div className="mt-5 flex flex-wrap items-center justify-between gap-3 border-t border-line pt-4 text-xs text-soft">
        <span className="flex flex-wrap gap-x-4 gap-y-1">
          {state.kind === "known" && state.readiness.version !== "" && (
            <span>
              {t("start.version")} <span className="font-mono text-ink">{state.readiness.version}</span>
            </span>
          )}
          {time !== "" && <span className="tabular-nums">{t("start.status.checkedAt", { time })}</span>}
        </span>
        {state.kind === "unreachable" && <Button onClick={onRetry}>{t("app.retry")}</Button>}
      </div>
    </Card>
  );
}

function CheckList({ checks }: { checks: readonly Check[] }) {
  const { t } = useI18n();
  if (checks.length === 0) return <p className="mt-2 text-sm text-soft">{t("start.parts.empty")}</p>;
  return (
    <ul className="mt-2 divide-y divide-line">
      {sortChecks(checks).map((check) => (
        <li key={check.name} className="flex items-start gap-3 py-2 text-sm">
          <span
            className={`mt-1.5 size-2 shrink-0 rounded-full ${check.ready ? "bg-good" : "bg-warn"}`}
            aria-hidden="true"
          />
          <span className="min-w-0 flex-1">
            <span className="font-medium break-words">{check.name}</span>
            {check.reason !== "" && <span className="block break-words text-soft">{check.reason}</span>}
          </span>
          <span className={check.ready ? "text-soft" : "text-warn"}>
            {t(check.ready ? "start.part.ready" : "start.part.waiting")}
          </span>
        </li>
      ))}
    </ul>
  );
}
