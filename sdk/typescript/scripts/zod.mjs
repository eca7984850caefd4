// JSON Schema 2020-12 as Zod source. What Zod cannot say is left to the gateway, which checks everything.

/** A schema as an expression. `names` maps the references that have a name in the module; others are written out in place. */
export function expression(schema, { root, names = new Map(), strict = false, within = [] }) {
  const context = { root, names, strict, within };
  if (schema === true || Object.keys(schema).length === 0) return "z.unknown()";
  if (schema === false) return "z.never()";
  if (schema.$ref !== undefined) return reference(schema.$ref, context);
  if (schema.const !== undefined) return `z.literal(${JSON.stringify(schema.const)})`;
  if (schema.enum !== undefined) return choice(schema.enum);
  const options = schema.oneOf ?? schema.anyOf;
  if (options !== undefined && schema.properties === undefined) return union(options, context);
  if (schema.allOf !== undefined) {
    const { allOf, ...rest } = schema;
    const parts = rest.properties === undefined ? allOf : [rest, ...allOf];
    return parts.map((part) => expression(part, context)).reduce((left, right) => `z.intersection(${left}, ${right})`);
  }
  const types = [schema.type ?? []].flat();
  const others = types.filter((type) => type !== "null");
  if (others.length === 0) return types.length === 1 ? "z.null()" : "z.unknown()";
  const expressions = others.map((type) => ofType(type, schema, context));
  const either = expressions.length === 1 ? expressions[0] : `z.union([${expressions.join(", ")}])`;
  return types.includes("null") ? `${either}.nullable()` : either;
}

/** The references that a schema makes, anywhere. */
export function references(schema) {
  if (Array.isArray(schema)) return schema.flatMap(references);
  if (schema === null || typeof schema !== "object") return [];
  const own = typeof schema.$ref === "string" ? [schema.$ref] : [];
  return [...own, ...Object.values(schema).flatMap(references)];
}

export function resolve(root, reference) {
  const segments = reference.replace(/^#\//, "").split("/");
  const found = segments.reduce((value, name) => value?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], root);
  if (found === undefined) throw new Error(`${reference} leads nowhere`);
  return found;
}

/** A description as the comment above what it describes. */
export function comment(text, indent = "") {
  if (!text) return "";
  const lines = text.replaceAll("*/", "*\\/").split("\n").map((line) => line.trimEnd());
  if (lines.length === 1) return `${indent}/** ${lines[0]} */\n`;
  return `${indent}/**\n${lines.map((line) => `${indent} *${line && ` ${line}`}\n`).join("")}${indent} */\n`;
}

function reference(to, context) {
  const name = context.names.get(to);
  if (name !== undefined) return name;
  // A type within itself has no end when it is written out.
  if (context.within.includes(to)) return "z.unknown()";
  return expression(resolve(context.root, to), { ...context, within: [...context.within, to] });
}

function choice(values) {
  if (values.every((value) => typeof value === "string")) return `z.enum(${JSON.stringify(values)})`;
  return `z.literal(${JSON.stringify(values)})`;
}

function union(options, context) {
  if (options.every((option) => typeof option.const === "string")) return choice(options.map((option) => option.const));
  const rest = options.filter((option) => option.type !== "null");
  const expressions = rest.map((option) => expression(option, context));
  const either = expressions.length === 1 ? expressions[0] : `z.union([${expressions.join(", ")}])`;
  return rest.length < options.length ? `${either}.nullable()` : either;
}

function ofType(type, schema, context) {
  switch (type) {
    case "object":
      return object(schema, context);
    case "array": {
      const items = `z.array(${expression(schema.items ?? true, context)})`;
      return items + bound("min", schema.minItems) + bound("max", schema.maxItems);
    }
    case "string":
      return string(schema);
    case "integer":
    case "number": {
      const number = type === "integer" ? "z.int()" : "z.number()";
      const inclusive = bound("min", schema.minimum) + bound("max", schema.maximum);
      return number + inclusive + bound("gt", schema.exclusiveMinimum) + bound("lt", schema.exclusiveMaximum);
    }
    case "boolean":
      return "z.boolean()";
    default:
      return "z.unknown()";
  }
}

function bound(method, value) {
  // Beyond what a number holds exactly, a bound says nothing.
  return value === undefined || Math.abs(value) > Number.MAX_SAFE_INTEGER ? "" : `.${method}(${value})`;
}

function string(schema) {
  const formats = { uuid: "z.guid()", "date-time": "z.iso.datetime({ offset: true })", date: "z.iso.date()" };
  const plain = formats[schema.format] ?? "z.string()";
  const limits = [schema.minLength ?? 0, schema.maxLength ?? "Infinity"];
  const length = schema.minLength || schema.maxLength !== undefined ? `.check(length(${limits.join(", ")}))` : "";
  const pattern = schema.pattern === undefined ? "" : `.regex(new RegExp(${JSON.stringify(schema.pattern)}, "u"))`;
  return plain + pattern + length;
}

function object(schema, context) {
  const extra = schema.additionalProperties;
  const properties = Object.entries(schema.properties ?? {});
  if (properties.length === 0 && extra !== false) {
    return `z.record(z.string(), ${expression(extra ?? true, context)})`;
  }
  const required = new Set(schema.required);
  const members = properties.map(([name, property]) => {
    const key = /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name);
    const member = `${key}: ${expression(property, context)}${required.has(name) ? "" : ".optional()"},`;
    return indented(comment(property.description) + member);
  });
  const shape = members.length === 0 ? "{}" : `{\n${members.join("\n")}\n}`;
  if (context.strict && extra === false) return `z.strictObject(${shape})`;
  if (extra !== null && typeof extra === "object") return `z.object(${shape}).catchall(${expression(extra, context)})`;
  // Who reads must not mind what a later release adds.
  return `z.looseObject(${shape})`;
}

function indented(text) {
  return text.replace(/^(?=.)/gm, "  ");
}
