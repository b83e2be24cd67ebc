// Talks to a server with Ollama's official JavaScript client and prints what it got as JSON.
import { Ollama } from 'ollama'
import { CITY, FRANCE, OSLO, WEATHER, WORD, collect, failure, leave } from './shared.js'

const [host, model, embedModel, endless] = process.argv.slice(2)
const ollama = new Ollama({ host })
const options = { temperature: 0, num_predict: 60 }
const tools = [{ type: 'function', function: { ...WEATHER, parameters: CITY } }]
const chat = (body) => ollama.chat({ model, messages: FRANCE, options, think: false, ...body })

const toolLoop = async () => {
  const { message } = await chat({ messages: OSLO, tools })
  const result = { role: 'tool', tool_name: 'get_weather', content: '5 degrees, rain' }
  return (await chat({ messages: [...OSLO, message, result], tools })).message.content
}

const streamedCalls = async () => {
  const calls = []
  for await (const part of await chat({ messages: OSLO, tools, stream: true })) calls.push(...(part.message.tool_calls ?? []))
  return calls.map((call) => [call.function.name, call.function.arguments])
}

const thinking = async () => {
  let thoughts = ''
  let text = ''
  for await (const { message } of await chat({ think: true, stream: true })) {
    thoughts += message.thinking ?? ''
    text += message.content
  }
  return [thoughts, text]
}

const found = {
  generate: (await ollama.generate({ model, prompt: 'Hello!', options })).response,
  generateStream: await collect(await ollama.generate({ model, prompt: 'Hello!', options, stream: true }), (p) => p.response),
  chat: (await chat({})).message.content,
  chatStream: await collect(await chat({ stream: true }), (p) => p.message.content),
  thinking: await thinking(),
  called: (await chat({ messages: OSLO, tools })).message.tool_calls.map((call) => [call.function.name, call.function.arguments]),
  required: (await chat({ tools, tool_choice: 'required' })).message.tool_calls.map((call) => call.function.name),
  streamedCalls: await streamedCalls(),
  toolLoop: await toolLoop(),
  structured: JSON.parse((await chat({ format: WORD })).message.content),
  counted: (await chat({})).prompt_eval_count,
  embed: (await ollama.embed({ model: embedModel, input: ['one', 'two'] })).embeddings.map((v) => v.length),
  list: (await ollama.list()).models.map((m) => m.name),
  ps: (await ollama.ps()).models.map((m) => m.name),
  capabilities: (await ollama.show({ model })).capabilities,
  version: (await ollama.version()).version,
  missing: await failure(ollama.generate({ model: 'no/such-model', prompt: 'x' })),
  bad: await failure(chat({ options: { temperature: 'hot' } })),
  pull: await failure(ollama.pull({ model: 'acme/nothing' })),
  pullStream: await failure((async () => collect(await ollama.pull({ model: 'acme/nothing', stream: true }), (p) => p.status))()),
  left: await leave(ollama.generate({ model: endless, prompt: 'Hello!', stream: true }), (stream) => stream.abort()),
}
console.log(JSON.stringify(found))
