import { routing } from './routing.ts'
const r = await routing.run({ smoke: process.argv.includes('--smoke'), log: console.log })
console.log(JSON.stringify(r, null, 1))
