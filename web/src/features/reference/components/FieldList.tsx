import { useI18n } from "../../../lib/i18n/I18nProvider";
import { type ApiDocument, refName, resolve, type Schema, typeLabel } from "../model";

type Props = { document: ApiDocument; schema: Schema; seen?: readonly string[] };

/** The fields of a schema, those of nested objects indented below. A schema inside itself is named, not repeated. */
export function FieldList({ document, schema, seen = [] }: Props) {
  const { t } = useI18n();
  const name = refName(schema);
  const full = resolve(document, schema);
  const fields = Object.entries(full.properties ?? {});
  if (fields.length === 0) return <p className="mt-2 text-sm text-soft">{t("reference.noFields")}</p>;
  const next = name === undefined ? seen : [...seen, name];
  return (
    <ul className="mt-1 divide-y divide-line text-sm">
      {fields.map(([key, field]) => {
        const inner = nested(document, field);
        const innerName = inner === undefined ? undefined : refName(inner);
        const again = innerName !== undefined && next.includes(innerName);
        return (
          <li key={key} className="py-2">
            <span className="font-mono text-[0.8125rem] font-medium break-all">{key}</span>{" "}
            <span className="text-soft">
              {typeLabel(field)}
              {full.required?.includes(key) && `, ${t("reference.required")}`}
              {again && `, ${t("reference.recursive")}`}
            </span>
            {field.description !== undefined && <p className="text-soft">{field.description}</p>}
            {field.enum !== undefined && (
              <p className="font-mono text-xs break-words text-soft">{field.enum.map(String).join(" · ")}</p>
            )}
            {inner !== undefined && !again && (
              <div className="mt-1 border-l-2 border-line pl-4">
                <FieldList document={document} schema={inner} seen={next} />
              </div>
            )}
          </li>
        );
      })}
    </ul>
  );
}

/** The object inside a field, looking through lists and maps. */
function nested(document: ApiDocument, field: Schema): Schema | undefined {
  const inner = field.items ?? (typeof field.additionalProperties === "object" ? field.additionalProperties : field);
  return resolve(document, inner).properties === undefined ? undefined : inner;
}
