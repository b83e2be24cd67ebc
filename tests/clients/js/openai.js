// Talks to a server with OpenAI's official JavaScript client and prints what it got as JSON.
import OpenAI from 'openai'
import { CITY, FRANCE, OSLO, WEATHER, WORD, collect, failure, leave } from './shared.js'

const [host, model, embedModel, endless] = process.argv.slice(2)
const client = new OpenAI({ baseURL: `${host}/v1`, apiKey: 'none', maxRetries: 0 })
const plain = { model, messages: FRANCE, temperature: 0, reasoning_effort: 'none' }
const tools = [{ type: 'function', function: { ...WEATHER, parameters: CITY } }]
const chat = (body) => client.chat.completions.create({ model, messages: FRANCE, temperature: 0, ...body })

const called = async (tool_choice) => {
  const { message, finish_reason } = (await chat({ messages: OSLO, tools, tool_choice })).choices[0]
  return [finish_reason, message.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)])]
}

const toolLoop = async () => {
  const { message } = (await chat({ messages: OSLO, tools })).choices[0]
  const result = { role: 'tool', tool_call_id: message.tool_calls[0].id, content: '5 degrees, rain' }
  return (await chat({ messages: [...OSLO, message, result], tools })).choices[0].message.content
}

const parts = []
for await (const part of await client.chat.completions.create({ ...plain, stream: true, stream_options: { include_usage: true } })) parts.push(part)

const runner = client.chat.completions.stream({ ...plain, tools, messages: OSLO })
const streamedCalls = (await runner.finalMessage()).tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)])

const progress = { model, progress: true, max_tokens: 4 }
const chatPhases = []
for await (const part of await client.chat.completions.create({ ...progress, messages: FRANCE, stream: true })) chatPhases.push(part.progress?.phase)
const toldResponse = client.responses.stream({ model, progress: true, max_output_tokens: 4, input: 'Hi' })
const responsePhases = []
for await (const event of toldResponse) responsePhases.push(event.progress?.phase)

const format = { type: 'json_schema', json_schema: { name: 'answer', schema: WORD, strict: true } }
const whole = await client.chat.completions.create(plain)

const found = {
  chat: whole.choices[0].message.content,
  usage: whole.usage,
  chatStream: parts.flatMap((part) => part.choices.map((choice) => choice.delta.content ?? '')).join(''),
  streamUsage: parts.at(-1).usage,
  reasoning: (await chat({})).choices[0].message.reasoning,
  auto: await called('auto'),
  required: await called('required'),
  named: await called({ type: 'function', function: { name: 'get_weather' } }),
  streamedCalls,
  chatPhases,
  chatHelper: (await client.chat.completions.stream({ ...progress, messages: FRANCE }).done(), true),
  responsePhases,
  responseEnd: (await toldResponse.finalResponse()).status,
  toolLoop: await toolLoop(),
  structured: JSON.parse((await chat({ response_format: format })).choices[0].message.content),
  completion: (await client.completions.create({ model, prompt: 'Once upon a time', max_tokens: 8, temperature: 0 })).choices[0].text,
  completionStream: await collect(
    await client.completions.create({ model, prompt: 'Once upon a time', max_tokens: 8, temperature: 0, stream: true }), (p) => p.choices[0]?.text,
  ),
  embed: (await client.embeddings.create({ model: embedModel, input: ['one', 'two'] })).data.map((v) => v.embedding.length),
  models: (await client.models.list()).data.map((m) => m.id),
  retrieved: (await client.models.retrieve(model)).id,
  missing: await failure(chat({ model: 'no/such-model' })),
  bad: await failure(chat({ temperature: 'hot' })),
  left: await leave(client.chat.completions.create({ model: endless, messages: FRANCE, stream: true }), (stream) => stream.controller.abort()),
}
console.log(JSON.stringify(found))
