-- Made by `dayfly batch setup slurm` from the site's settings; make it again when they change.
-- Refuses at submission what would be refused on the node, so that the user is told at once. The node has the final decision.

local library = LIBRARY
local rules = {
   -- RULES
}
local words = {
   -- WORDS
}
local UNSAID = 4294967294 -- how Slurm's numbers say that they are not set

-- A value that the plugin sent with the job as NAME=value; "" if it is not set.
local function said(job_desc, name)
   local environment = job_desc.spank_job_env
   local size = job_desc.spank_job_env_size or 0
   for index = 0, size - 1 do
      local line = environment and environment[index] or ""
      local value = string.match(line, "^" .. name .. "=(.*)$")
      if value then
         return value
      end
   end
   return ""
end

local function meant(image)
   local library, name = string.match(image, "^(%a+)/(.*)$")
   library, name = library or "system", name or image
   name = string.match(name, "(sha256:%x+)$") or name
   if not string.find(name, ":", 1, true) then
      name = name .. ":latest"
   end
   return library .. "/" .. name
end

-- Whether the site's library has an image, as far as this host can tell: without a library here, the node checks it.
local function there(image)
   local name = string.match(image, "^system/(.*)$")
   local file = name and io.open(library .. "/index.json")
   if not file then
      return true
   end
   local index = file:read(16 * 1024 * 1024) or ""
   file:close()
   if string.find(name, "^sha256:") then
      return string.find(index, '"' .. name, 1, true) ~= nil
   end
   for found in string.gmatch(index, '"org%.opencontainers%.image%.ref%.name"%s*:%s*"([^"]*)"') do
      if found == name then
         return true
      end
   end
   return false
end

-- MiB that the only task of a job requests on its node; 0 if it requests none, or has several tasks.
local function memory(job_desc)
   local function number(value)
      return value and value < UNSAID and value or nil
   end
   if (number(job_desc.num_tasks) or 1) > 1 then
      return 0
   end
   local cpus = number(job_desc.cpus_per_task) or number(job_desc.min_cpus) or 1
   return number(job_desc.min_mem_per_node) or (number(job_desc.min_mem_per_cpu) or 0) * cpus
end

local function refuse(text, values)
   slurm.log_user("dayfly: " .. string.gsub(text, "{(%a+)}", values))
   return slurm.ERROR
end

local function check(job_desc, partition)
   local rule = rules[partition] or rules[""]
   local image = said(job_desc, "DAYFLY_IMAGE")
   local about = { queue = partition, image = image }
   local asks = image ~= "none" and (image ~= "" or said(job_desc, "DAYFLY_BOOT") ~= "" or said(job_desc, "DAYFLY_NETWORK") ~= ""
      or said(job_desc, "DAYFLY_SHARE") ~= "")
   if asks and rule.vm == "never" then
      return refuse(words.no_machines, about)
   end
   if image == "none" and rule.vm == "always" then
      return refuse(words.always, about)
   end
   if asks and image == "" and rule.image == "" then
      return refuse(words.unnamed, about)
   end
   if not asks and (rule.vm ~= "always" or image == "none") then
      return slurm.SUCCESS
   end
   if rule.memory > 0 and memory(job_desc) > rule.memory then
      return refuse(rule.too_much, about)
   end
   if image == "" then
      return slurm.SUCCESS
   end
   local allowed = #rule.images == 0
   for _, pattern in ipairs(rule.images) do
      allowed = allowed or string.find(meant(image), pattern) ~= nil
   end
   if not allowed then
      return refuse(rule.forbidden, about)
   end
   -- If all images are allowed, a name without a library may be an image of the user's own.
   if (#rule.images > 0 or string.find(image, "^system/")) and not there(meant(image)) then
      about.image = string.match(meant(image), "/(.*)$")
      return refuse(words.missing, about)
   end
   return slurm.SUCCESS
end

function slurm_job_submit(job_desc, part_list, submit_uid)
   local partitions = job_desc.partition or job_desc.default_partition or ""
   if partitions == "" then
      for name, partition in pairs(part_list) do
         if partition.flag_default == 1 then
            partitions = name
         end
      end
   end
   for partition in string.gmatch(partitions, "[^,]+") do
      local answer = check(job_desc, partition)
      if answer ~= slurm.SUCCESS then
         return answer
      end
   end
   return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
   return slurm.SUCCESS
end

return slurm.SUCCESS
