#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"
#include "shm/ngx_vidgen_health.h"
#include "shm/ngx_vidgen_zone.h"
#include "shm/ngx_vidgen_zone_int.h"


#define NGX_VIDGEN_HEALTH_COOLDOWN  600      /* seconds at most */
#define NGX_VIDGEN_HEALTH_ASK       10000    /* ms between probes that live
                                                traffic asks for */


static void ngx_vidgen_health_ask(ngx_vidgen_health_record_t *record);
static ngx_vidgen_health_e ngx_vidgen_health_judge(
    ngx_vidgen_health_record_t *record, ngx_vidgen_health_rule_t *rule,
    ngx_uint_t passed, ngx_uint_t impaired);
static void ngx_vidgen_health_reason(ngx_vidgen_health_t *health,
    ngx_str_t *reason);


ngx_str_t  ngx_vidgen_health_names[] = {
    ngx_string("healthy"),
    ngx_string("degraded"),
    ngx_string("down")
};

ngx_str_t  ngx_vidgen_health_credentials = ngx_string("credentials");
static ngx_str_t  ngx_vidgen_health_slow = ngx_string("slow");


void
ngx_vidgen_health_get(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    ngx_vidgen_health_t *health)
{
    ngx_vidgen_health_record_t  *record;

    ngx_memzero(health, sizeof(ngx_vidgen_health_t));

    ngx_vidgen_zone_lock(zone);

    record = ngx_vidgen_health_find(zone->sh, provider);

    if (record) {
        *health = record->health;
    }

    ngx_vidgen_zone_unlock(zone);

    /* a longer one than there may be: the clock was set back since */

    if (health->cooldown > ngx_time() + NGX_VIDGEN_HEALTH_COOLDOWN) {
        health->cooldown = 0;
    }
}


ngx_uint_t
ngx_vidgen_health_signal(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    ngx_vidgen_health_rule_t *rule, ngx_uint_t probe, ngx_uint_t ok,
    ngx_msec_t response_time_ms, ngx_str_t *reason,
    ngx_vidgen_health_t *health)
{
    ngx_uint_t                   credentials, slow;
    ngx_vidgen_health_e          before;
    ngx_vidgen_health_record_t   copy, *record;

    credentials = ngx_vidgen_text_same(reason, &ngx_vidgen_health_credentials);

    slow = ok && rule->slow && response_time_ms > rule->slow;

    if (slow && reason->len == 0) {
        reason = &ngx_vidgen_health_slow;
    }

    ngx_vidgen_zone_lock(zone);

    record = ngx_vidgen_health_open(zone->sh, provider, &copy);

    before = copy.health.status;

    /* a provider that refuses our key is there all the same */

    copy.health.status = ngx_vidgen_health_judge(&copy, rule,
                                                 ok || credentials,
                                                 slow || credentials);
    copy.health.response_time_ms = response_time_ms;

    if (probe) {
        copy.health.last_check = ngx_time();

    } else if (!ok && !credentials) {
        ngx_vidgen_health_ask(&copy);
    }

    /* a trial that fails says no more than was known */

    if (probe || copy.health.status != NGX_VIDGEN_DOWN
        || before != NGX_VIDGEN_DOWN)
    {
        copy.health.renewed = ngx_time();
    }

    if (copy.health.status != before) {
        copy.health.since = ngx_time();

        if (!probe) {
            ngx_vidgen_relay_note(zone->sh, &copy);
        }
    }

    /* within "degraded" the reason may be another one by now */

    if (copy.health.status != before
        || copy.health.status == NGX_VIDGEN_DEGRADED)
    {
        ngx_vidgen_health_reason(&copy.health, reason);
    }

    ngx_vidgen_health_store(zone, record, &copy);

    ngx_vidgen_zone_unlock(zone);

    *health = copy.health;

    return health->status != before;
}


/*
 * An outage ends with passes in a row and not before, whatever the number of
 * failures is by then.
 */

static ngx_vidgen_health_e
ngx_vidgen_health_judge(ngx_vidgen_health_record_t *record,
    ngx_vidgen_health_rule_t *rule, ngx_uint_t passed, ngx_uint_t impaired)
{
    ngx_uint_t            down;
    ngx_vidgen_health_t  *health;

    health = &record->health;
    down = health->status == NGX_VIDGEN_DOWN;

    if (!passed) {
        record->passes = 0;
        health->failures++;

        return (down || health->failures >= rule->fails)
               ? NGX_VIDGEN_DOWN : NGX_VIDGEN_DEGRADED;
    }

    record->passes++;
    health->failures = 0;

    if (down && record->passes < rule->passes) {
        return NGX_VIDGEN_DOWN;
    }

    return impaired ? NGX_VIDGEN_DEGRADED : NGX_VIDGEN_HEALTHY;
}


static void
ngx_vidgen_health_ask(ngx_vidgen_health_record_t *record)
{
    int64_t  now;

    now = ngx_vidgen_relay_now();

    if (now - record->relay.asked >= NGX_VIDGEN_HEALTH_ASK
        || record->relay.asked > now + NGX_VIDGEN_HEALTH_ASK)
    {
        record->relay.asked = now;
        record->relay.asks++;
    }
}


void
ngx_vidgen_health_seed(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    ngx_vidgen_health_t *health)
{
    ngx_vidgen_health_record_t   copy, *record;

    ngx_vidgen_zone_lock(zone);

    record = ngx_vidgen_health_open(zone->sh, provider, &copy);

    if (copy.health.renewed == 0) {

        health->cooldown = copy.health.cooldown;
        copy.health = *health;

        /* whether an outage, or its end, was announced: the database knows */

        copy.relay.alert.told = 0;
        copy.relay.alert.owed = 1;
        copy.relay.alert.began = health->since;

        ngx_vidgen_health_store(zone, record, &copy);
    }

    ngx_vidgen_zone_unlock(zone);
}


void
ngx_vidgen_health_times(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    ngx_vidgen_health_times_t *times)
{
    ngx_vidgen_health_record_t   copy, *record;

    ngx_vidgen_zone_lock(zone);

    record = ngx_vidgen_health_open(zone->sh, provider, &copy);
    copy.health.times = *times;
    ngx_vidgen_health_store(zone, record, &copy);

    ngx_vidgen_zone_unlock(zone);
}


ngx_int_t
ngx_vidgen_health_admit(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    ngx_vidgen_health_rule_t *rule, ngx_uint_t claim)
{
    time_t                       now;
    ngx_int_t                    rc;
    ngx_msec_t                   silent, since;
    ngx_vidgen_health_record_t   copy, *record;

    rc = NGX_OK;
    now = ngx_time();

    ngx_vidgen_zone_lock(zone);

    record = ngx_vidgen_health_find(zone->sh, provider);

    if (record && record->health.status == NGX_VIDGEN_DOWN) {

        /* a clock that was set back counts as a long time */

        silent = now < record->health.renewed
                 ? (ngx_msec_t) -1
                 : (ngx_msec_t) (now - record->health.renewed) * 1000;
        since = now < record->trial ? (ngx_msec_t) -1
                                    : (ngx_msec_t) (now - record->trial) * 1000;

        rc = silent >= 2 * rule->interval && since >= rule->interval
             ? NGX_AGAIN : NGX_DECLINED;
    }

    if (rc == NGX_AGAIN && claim) {
        copy = *record;
        copy.trial = now;
        ngx_vidgen_health_store(zone, record, &copy);
    }

    ngx_vidgen_zone_unlock(zone);

    return rc;
}


void
ngx_vidgen_health_cooldown(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    time_t until)
{
    time_t                       now, limit;
    ngx_vidgen_health_record_t   copy, *record;

    now = ngx_time();
    limit = now + NGX_VIDGEN_HEALTH_COOLDOWN;

    if (until <= now) {
        return;
    }

    until = ngx_min(until, limit);

    ngx_vidgen_zone_lock(zone);

    record = ngx_vidgen_health_open(zone->sh, provider, &copy);

    if (until > copy.health.cooldown || copy.health.cooldown > limit) {
        copy.health.cooldown = until;
        ngx_vidgen_health_store(zone, record, &copy);
    }

    ngx_vidgen_zone_unlock(zone);
}


static void
ngx_vidgen_health_reason(ngx_vidgen_health_t *health, ngx_str_t *reason)
{
    size_t  len;

    ngx_memzero(health->reason, sizeof(health->reason));

    len = ngx_min(reason->len, sizeof(health->reason) - 1);

    if (len) {
        ngx_memcpy(health->reason, reason->data, len);
    }
}
