import { Card } from "../../../components/ui/Card";
import { CodeBlock } from "../../../components/ui/CodeBlock";
import { CopyButton } from "../../../components/ui/CopyButton";
import { Skeleton } from "../../../components/ui/Skeleton";
import { useI18n } from "../../../lib/i18n/I18nProvider";
import { useReadiness } from "../api/readiness";
import { type Address, sampleEvent } from "../model";
import { StatusCard } from "./StatusCard";

export function StartPage() {
  const { t } = useI18n();
  const [state, again] = useReadiness();
  return (
    <>
      <h1 className="text-3xl font-semibold tracking-tight text-balance sm:text-4xl">{t("start.title")}</h1>
      <p className="mt-3 max-w-2xl text-soft sm:text-lg">{t("start.lead")}</p>
      <div className="mt-8 grid items-start gap-5 lg:grid-cols-[minmax(0,2fr)_minmax(0,3fr)]">
        <StatusCard state={state} onRetry={again} />
        <div className="grid gap-5">
          <Card title={t("start.addresses")} text={t("start.addresses.text")}>
            {state.kind === "checking" ? (
              <Skeleton lines={4} label={t("start.status.checking")} />
            ) : (
              <AddressTable addresses={state.kind === "known" ? state.readiness.addresses : []} />
            )}
          </Card>
          <Card title={t("start.send")} text={t("start.send.text")}>
            <CodeBlock label="curl" code={sampleEvent(window.location.origin)} />
          </Card>
          <Card title={t("nav.reference")} text={t("start.reference")}>
            <a
              href="/api/docs"
              className="inline-flex min-h-10 items-center rounded-lg bg-accent px-4 text-sm font-semibold text-white hover:opacity-90 dark:text-page"
            >
              {t("start.reference.link")}
            </a>
          </Card>
        </div>
      </div>
    </>
  );
}

function AddressTable({ addresses }: { addresses: readonly Address[] }) {
  const { t } = useI18n();
  if (addresses.length === 0) return <p className="text-sm text-soft">{t("start.addresses.empty")}</p>;
  return (
    <dl className="divide-y divide-line">
      {addresses.map(({ name, address }) => (
        <div key={`${name} ${address}`} className="flex min-h-11 items-center justify-between gap-x-3 py-1">
          <div className="min-w-0 flex-1 sm:grid sm:grid-cols-[10rem_minmax(0,1fr)] sm:items-center sm:gap-3">
            <dt className="text-sm text-soft">{name}</dt>
            <dd className="truncate font-mono text-sm" title={address}>
              {address}
            </dd>
          </div>
          <CopyButton text={address} what={name} />
        </div>
      ))}
    </dl>
  );
}
