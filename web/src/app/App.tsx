import { lazy, Suspense, useEffect } from "react";
import { Layout } from "../components/layout/Layout";
import { Notice } from "../components/ui/Notice";
import { Skeleton } from "../components/ui/Skeleton";
import { StartPage } from "../features/start/components/StartPage";
import { useI18n } from "../lib/i18n/I18nProvider";

const ReferencePage = lazy(() =>
  import("../features/reference/components/ReferencePage").then((module) => ({ default: module.ReferencePage })),
);

export function App() {
  const { t } = useI18n();
  const path = window.location.pathname.replace(/\/+$/, "") || "/";
  const page = { "/": "start", "/api/docs": "reference" }[path] ?? "unknown";

  useEffect(() => {
    document.title = page === "reference" ? `${t("reference.title")} · Mekong` : "Mekong";
  }, [page, t]);

  return (
    <Layout path={path}>
      {page === "start" && <StartPage />}
      {page === "reference" && (
        <Suspense fallback={<Skeleton lines={6} label={t("reference.loading")} />}>
          <ReferencePage />
        </Suspense>
      )}
      {page === "unknown" && (
        <Notice tone="warn" title={t("app.notFound.title")} text={t("app.notFound.text")}>
          <a className="font-medium text-accent underline underline-offset-4" href="/">
            {t("nav.start")}
          </a>
        </Notice>
      )}
    </Layout>
  );
}
