import type { FileVersion } from "../../protocol/file-version.ts";
import type { Sql } from "./sql.ts";

interface DocRow extends Record<string, SqlStorageValue> {
  doc: string;
}

/** The artifact space: what each path holds, and every version it had. */
export class FileTables {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** A version without content removes the path; it stays among the versions. */
  put(file: FileVersion): void {
    const doc = JSON.stringify(file);
    if (file.sha256 === null) this.#sql.run("DELETE FROM files WHERE path = ?", file.path);
    else {
      this.#sql.run(
        "INSERT INTO files (path, doc) VALUES (?, ?) ON CONFLICT (path) DO UPDATE SET doc = excluded.doc",
        file.path,
        doc,
      );
    }
    this.#sql.run(
      "INSERT INTO file_versions (path, version, doc) VALUES (?, ?, ?)",
      file.path,
      file.version,
      doc,
    );
  }

  file(path: string): FileVersion | null {
    return parsed(this.#sql.first<DocRow>("SELECT doc FROM files WHERE path = ?", path));
  }

  fileVersion(path: string, version: number): FileVersion | null {
    return parsed(
      this.#sql.first<DocRow>("SELECT doc FROM file_versions WHERE path = ? AND version = ?", path, version),
    );
  }

  /** The contents that any version has, each once. */
  hashes(): string[] {
    const rows = this.#sql.all<{ sha256: string }>(
      "SELECT DISTINCT doc ->> 'sha256' AS sha256 FROM file_versions WHERE doc ->> 'sha256' IS NOT NULL",
    );
    return rows.map(({ sha256 }) => sha256);
  }

  /** The JSON texts of what paths with this beginning hold, in code point order of the paths, after a path. */
  page(prefix: string, afterPath: string, limit: number): string[] {
    const end = endOf(prefix);
    const rows = this.#sql.all<DocRow>(
      `SELECT doc FROM files WHERE path >= max(?1, ?2) AND path <> ?2 AND (?3 IS NULL OR path < ?3)
       ORDER BY path LIMIT ?4`,
      prefix,
      afterPath,
      end,
      limit,
    );
    return rows.map(({ doc }) => doc);
  }

  /** The JSON texts of a path's versions, oldest first, after a version. */
  versions(path: string, afterVersion: number, limit: number): string[] {
    const rows = this.#sql.all<DocRow>(
      "SELECT doc FROM file_versions WHERE path = ? AND version > ? ORDER BY version LIMIT ?",
      path,
      afterVersion,
      limit,
    );
    return rows.map(({ doc }) => doc);
  }

  /**
   * Those of these contents that any version has. Reads every version: only collection asks, and only for what the upload
   * itself could not settle.
   */
  held(hashes: string[]): string[] {
    const rows = this.#sql.all<{ sha256: string }>(
      `SELECT DISTINCT doc ->> 'sha256' AS sha256 FROM file_versions
       WHERE doc ->> 'sha256' IN (SELECT value FROM json_each(?1))
       UNION SELECT doc ->> 'sha256' FROM files WHERE doc ->> 'sha256' IN (SELECT value FROM json_each(?1))`,
      JSON.stringify(hashes),
    );
    return rows.map(({ sha256 }) => sha256);
  }

  /** The JSON texts of what the paths hold, by path in code unit order. */
  docs(): string[] {
    const rows = this.#sql.all<DocRow>("SELECT doc FROM files");
    return rows
      .map(({ doc }) => ({ doc, path: (JSON.parse(doc) as FileVersion).path }))
      .sort((a, b) => (a.path < b.path ? -1 : 1))
      .map(({ doc }) => doc);
  }
}

/** The first text after all that begin with `prefix`; null when there is no such. Texts are ordered by code point. */
function endOf(prefix: string): string | null {
  const last = [...prefix].at(-1);
  const code = last?.codePointAt(0);
  if (last === undefined || code === undefined) return null;
  const before = prefix.slice(0, -last.length);
  if (code === 0x10ffff) return endOf(before);
  return before + String.fromCodePoint(code === 0xd7ff ? 0xe000 : code + 1);
}

function parsed(row: DocRow | null): FileVersion | null {
  return row === null ? null : (JSON.parse(row.doc) as FileVersion);
}
