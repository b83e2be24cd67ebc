// Talks to a server with Ollama's official JavaScript client and prints what it got as JSON.
import { Ollama } from 'ollama'

const [host, model, embedModel] = process.argv.slice(2)
const ollama = new Ollama({ host })
const options = { temperature: 0, num_predict: 20 }
const messages = [{ role: 'user', content: 'What is the capital of France?' }]

const collect = async (stream, text) => {
  let all = ''
  for await (const part of stream) all += text(part)
  return all
}

const failure = async (promise) => {
  try {
    await promise
    return null
  } catch (error) {
    return { message: error.message, status: error.status_code ?? null }
  }
}

const found = {
  generate: (await ollama.generate({ model, prompt: 'Hello!', options })).response,
  generateStream: await collect(await ollama.generate({ model, prompt: 'Hello!', options, stream: true }), (p) => p.response),
  chat: (await ollama.chat({ model, messages, options, think: false })).message.content,
  chatStream: await collect(await ollama.chat({ model, messages, options, think: false, stream: true }), (p) => p.message.content),
  embed: (await ollama.embed({ model: embedModel, input: ['one', 'two'] })).embeddings.map((v) => v.length),
  list: (await ollama.list()).models.map((m) => m.name),
  ps: (await ollama.ps()).models.map((m) => m.name),
  version: (await ollama.version()).version,
  missing: await failure(ollama.generate({ model: 'no/such-model', prompt: 'x' })),
  pull: await failure(ollama.pull({ model: 'acme/nothing' })),
  pullStream: await failure((async () => collect(await ollama.pull({ model: 'acme/nothing', stream: true }), (p) => p.status))()),
}
console.log(JSON.stringify(found))
