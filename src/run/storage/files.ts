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

  /** The JSON texts of what the paths hold, by path in code unit order. */
  docs(): string[] {
    const rows = this.#sql.all<DocRow>("SELECT doc FROM files");
    return rows
      .map(({ doc }) => ({ doc, path: (JSON.parse(doc) as FileVersion).path }))
      .sort((a, b) => (a.path < b.path ? -1 : 1))
      .map(({ doc }) => doc);
  }
}

function parsed(row: DocRow | null): FileVersion | null {
  return row === null ? null : (JSON.parse(row.doc) as FileVersion);
}
