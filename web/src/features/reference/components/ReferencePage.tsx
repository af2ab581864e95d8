import { useDeferredValue, useMemo, useState } from "react";
import { Button } from "../../../components/ui/Button";
import { Notice } from "../../../components/ui/Notice";
import { Skeleton } from "../../../components/ui/Skeleton";
import { useI18n } from "../../../lib/i18n/I18nProvider";
import { documentUrl, useDocument } from "../api/document";
import { type ApiDocument, filterGroups, groupOperations, groupTitle } from "../model";
import { OperationCard } from "./OperationCard";

export function ReferencePage() {
  const { t } = useI18n();
  const [state, again] = useDocument();
  return (
    <>
      <h1 className="text-3xl font-semibold tracking-tight">{t("reference.title")}</h1>
      <p className="mt-3 max-w-2xl text-soft">{t("reference.lead")}</p>
      <p className="mt-2 text-sm">
        <a
          className="font-medium text-accent underline underline-offset-4"
          href={documentUrl}
          download="mekong-openapi.json"
        >
          {t("reference.download")}
        </a>
      </p>
      <div className="mt-8">
        {state.kind === "loading" && <Skeleton lines={9} label={t("reference.loading")} />}
        {state.kind === "failed" && (
          <Notice tone="bad" title={t("reference.error")}>
            <Button onClick={again}>{t("app.retry")}</Button>
          </Notice>
        )}
        {state.kind === "loaded" && <Operations document={state.document} />}
      </div>
    </>
  );
}

function Operations({ document }: { document: ApiDocument }) {
  const { t } = useI18n();
  const [query, setQuery] = useState("");
  const wanted = useDeferredValue(query);
  const groups = useMemo(() => groupOperations(document), [document]);
  const shown = useMemo(() => filterGroups(groups, wanted), [groups, wanted]);
  const count = shown.reduce((sum, group) => sum + group.entries.length, 0);

  if (groups.length === 0) return <Notice tone="plain" title={t("reference.empty")} />;
  return (
    <>
      <div className="flex flex-wrap items-center gap-x-4 gap-y-2">
        <input
          type="search"
          value={query}
          onChange={(event) => setQuery(event.target.value)}
          placeholder={t("reference.search")}
          aria-label={t("reference.search")}
          className="min-h-11 w-full rounded-lg border border-line bg-card px-4 text-sm placeholder:text-soft sm:max-w-sm"
        />
        <p role="status" className="text-sm text-soft">
          {t(count === 1 ? "reference.count.one" : "reference.count.other", { count: String(count) })}
        </p>
      </div>
      {shown.length === 0 && (
        <div className="mt-6">
          <Notice tone="plain" title={t("reference.noMatch", { query: wanted })}>
            <Button onClick={() => setQuery("")}>{t("reference.clear")}</Button>
          </Notice>
        </div>
      )}
      {shown.map((group) => (
        <section key={group.name} aria-label={groupTitle(group.name)} className="mt-10">
          <h2 className="text-xl font-semibold tracking-tight">{groupTitle(group.name)}</h2>
          <p className="mt-1 max-w-3xl text-sm text-soft">{group.description}</p>
          <div className="mt-4 grid gap-2">
            {group.entries.map((entry) => (
              <OperationCard key={entry.id} document={document} entry={entry} />
            ))}
          </div>
        </section>
      ))}
    </>
  );
}
