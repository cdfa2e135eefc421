-- Rules of the tests: what a message wants of rspamd stands in its header section.

-- X-Test-Score: so many points.
rspamd_config:register_symbol{
  name = 'TEST_SCORE', type = 'normal', score = 1.0, group = 'test',
  callback = function(task)
    local score = task:get_header('X-Test-Score')
    if score then
      return true, tonumber(score), {'option one', 'option two'}
    end
  end,
}

-- What rspamd was told, as it understands it.
local function request(task)
  local seen = {}
  local function see(name, value) seen[#seen + 1] = name .. '=' .. tostring(value) end
  see('ip', task:get_from_ip())
  see('helo', task:get_helo())
  see('hostname', task:get_hostname())
  local from = task:get_from('smtp')
  see('from', from and from[1].addr)
  local rcpts = task:get_recipients('smtp') or {}
  see('rcpts', #rcpts)
  for i = 1, math.min(#rcpts, 3) do see('rcpt', rcpts[i].addr) end
  see('user', task:get_user())
  see('principal', task:get_principal_recipient())
  see('queue', task:get_queue_id())
  for _, name in ipairs{'Tls-Version', 'Tls-Cipher', 'Mta-Name', 'Flags'} do
    see(name, task:get_request_header(name))
  end
  return table.concat(seen, '; ')
end

-- X-Test-Action and X-Test-Message: that action. X-Test-Milter: these changes, in
-- JSON. X-Test-Request: a field that tells what rspamd was told.
rspamd_config:register_symbol{
  name = 'TEST_ACTION', type = 'postfilter', score = 0.0, group = 'test',
  callback = function(task)
    local action = task:get_header('X-Test-Action')
    if action then
      task:set_pre_result{action = action, message = task:get_header('X-Test-Message'), module = 'test'}
    end
    local milter = task:get_header('X-Test-Milter')
    if milter then
      local parser = require('ucl').parser()
      parser:parse_string(milter)
      task:set_milter_reply(parser:get_object())
    end
    if task:get_header('X-Test-Request') then
      require('lua_mime').modify_headers(task, {add = {['X-Test-Request-Seen'] = {order = 0, value = request(task)}}})
    end
  end,
}
