/** `cmesh deploy`: `cmesh contract deploy` in one word less. */
export { deploy } from './contract/deploy.ts'
