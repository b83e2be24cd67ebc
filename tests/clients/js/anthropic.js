// Talks to a server with Anthropic's official JavaScript client and prints what it got as JSON.
import Anthropic from '@anthropic-ai/sdk'
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema'
import { CITY, FRANCE, OSLO, WEATHER, WORD, failure, leave } from './shared.js'

const [host, model, , endless] = process.argv.slice(2)
const sent = new Set()
const noted = (url, init) => {
  new Headers(init.headers).forEach((_, name) => sent.add(name))
  return fetch(url, init)
}
const browser = { dangerouslyAllowBrowser: true, fetch: noted }
const client = new Anthropic({ baseURL: host, apiKey: 'none', maxRetries: 0, ...browser })
const tools = [{ ...WEATHER, input_schema: CITY }]
const say = (body) => client.messages.create({ model, max_tokens: 200, messages: FRANCE, temperature: 0, ...body })
const off = { thinking: { type: 'disabled' } }

const called = async (tool_choice) => {
  const answer = await say({ messages: OSLO, tools, tool_choice })
  return [answer.stop_reason, answer.content.filter((block) => block.type === 'tool_use').map((call) => [call.name, call.input])]
}

const toolLoop = async () => {
  const { content } = await say({ messages: OSLO, tools })
  const result = { type: 'tool_result', tool_use_id: content.at(-1).id, content: '5 degrees, rain' }
  const messages = [...OSLO, { role: 'assistant', content }, { role: 'user', content: [result] }]
  return (await say({ messages, tools })).content.at(-1)
}

const weather = betaTool({ ...WEATHER, inputSchema: CITY, run: ({ city }) => `${city}: 5 degrees, rain` })
const runTools = async (stream) => {
  const asked = { model, max_tokens: 200, messages: OSLO, temperature: 0, tools: [weather], stream }
  const runner = client.beta.messages.toolRunner(asked)
  const last = await runner.runUntilDone()
  return [runner.params.messages.map((message) => message.role), last.content.at(-1).text]
}

const whole = await say(off)
const streamed = await client.messages.stream({ model, max_tokens: 200, messages: FRANCE, temperature: 0, ...off }).finalMessage()
const thought = await client.messages.stream({ model, max_tokens: 200, messages: FRANCE, temperature: 0 }).finalMessage()
const withProgress = await client.messages.stream({ model, max_tokens: 4, messages: FRANCE, progress: true }).finalMessage()
const streamedCall = await client.messages.stream({ model, max_tokens: 200, messages: OSLO, temperature: 0, tools }).finalMessage()

const found = {
  text: whole.content.map((block) => block.text),
  usage: whole.usage,
  streamed: streamed.content.map((block) => block.text),
  streamUsage: streamed.usage,
  thinking: (await say({})).content.map((block) => block.type),
  thinkingStream: thought.content.map((block) => [block.type, Boolean(block.signature)]),
  auto: await called({ type: 'auto' }),
  any: await called({ type: 'any' }),
  named: await called({ type: 'tool', name: 'get_weather' }),
  withProgress: withProgress.stop_reason,
  streamedCall: [streamedCall.stop_reason, streamedCall.content.at(-1).input],
  toolLoop: await toolLoop(),
  toolRunner: [await runTools(false), await runTools(true)],
  structured: JSON.parse((await say({ output_config: { format: { type: 'json_schema', schema: WORD } } })).content.at(-1).text),
  counted: (await client.messages.countTokens({ model, messages: FRANCE, tools })).input_tokens,
  read: (await say({ tools, max_tokens: 1 })).usage,
  models: (await client.models.list()).data.map((m) => [m.type, m.id]),
  missing: await failure(say({ model: 'no/such-model' })),
  bad: await failure(say({ temperature: 'hot' })),
  left: await leave(client.messages.create({ model: endless, max_tokens: 100000, messages: FRANCE, stream: true }), (stream) => stream.controller.abort()),
}
await say({ ...off, workspace_id: 'none', user_profile_id: 'none' })
found.headers = [...sent]
console.log(JSON.stringify(found))
