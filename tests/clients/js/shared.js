// What the scripts of this folder share: what is asked, and how an answer or an error becomes JSON.
export const FRANCE = [{ role: 'user', content: 'What is the capital of France?' }]
export const OSLO = [{ role: 'user', content: 'What is the weather in Oslo?' }]
export const CITY = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }
export const WEATHER = { name: 'get_weather', description: 'Get the weather for a city' }
export const WORD = {
  type: 'object',
  properties: { word: { type: 'string', enum: ['Paris', 'Rome'] }, sure: { type: 'boolean' } },
  required: ['word', 'sure'],
  additionalProperties: false,
}

export const collect = async (stream, text) => {
  let all = ''
  for await (const part of stream) all += text(part) ?? ''
  return all
}

export const failure = async (promise) => {
  try {
    await promise
    return null
  } catch (error) {
    return { name: error.constructor.name, message: error.message, status: error.status_code ?? error.status ?? null }
  }
}

// Leaves a stream behind its first piece: whether one came, and what the client throws then, if it does.
export const leave = async (started, abort) => {
  const stream = await started
  let begun = false
  try {
    for await (const piece of stream) {
      begun ||= Boolean(piece)
      abort(stream)
    }
    return [begun, null]
  } catch (error) {
    return [begun, error.name]
  }
}
