import fs from 'node:fs'
import { WasmEngine } from '../providers/contracts/wasm.ts'
const e = new WasmEngine(); e.install('0xc', fs.readFileSync('/tmp/counter.wasm'), new Map())
const context = { seq: 1, timeMs: 0, caller: 'x' }; const input = new TextEncoder().encode('[1]')
const N=+process.argv[2]!; const fn=process.argv[3]??'increment'
for(let r=0;r<3;r++){const t=performance.now(); for(let i=0;i<N;i++) e.call({address:'0xc',function:fn,input: fn==='get'?new Uint8Array(0):input,view:false,context}); console.log(((performance.now()-t)*1000/N).toFixed(3))}
