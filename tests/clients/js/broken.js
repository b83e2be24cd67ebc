// Begins a stream with the client that is named, says so, and prints the error with which the stream ends, if it does.
import Anthropic from '@anthropic-ai/sdk'
import { Ollama } from 'ollama'
import OpenAI from 'openai'
import { FRANCE, failure } from './shared.js'

const [client, host, model] = process.argv.slice(2)
const streams = {
  ollama: () => new Ollama({ host }).generate({ model, prompt: 'Hello!', stream: true }),
  openai: () =>
    new OpenAI({ baseURL: `${host}/v1`, apiKey: 'none', maxRetries: 0 }).chat.completions.create({ model, messages: FRANCE, stream: true }),
  anthropic: () =>
    new Anthropic({ baseURL: host, apiKey: 'none', maxRetries: 0 }).messages.create({ model, max_tokens: 100000, messages: FRANCE, stream: true }),
}

const read = async () => {
  let begun = false
  for await (const _ of await streams[client]()) {
    if (!begun) console.log('begun')
    begun = true
  }
}
console.log(JSON.stringify(await failure(read())))
