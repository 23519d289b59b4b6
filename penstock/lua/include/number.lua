-- A whole number as text, sooner than Redis makes it of one that it is handed. What is on the way to
-- most jobs writes numbers this way, and those that are always the same in quotes.
local function whole(number)
  return string.format('%d', number)
end
