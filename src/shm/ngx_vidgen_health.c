#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_health.h"
#include "shm/ngx_vidgen_zone.h"
#include "shm/ngx_vidgen_zone_int.h"


#define NGX_VIDGEN_HEALTH_COOLDOWN  600      /* seconds at most */


static ngx_vidgen_health_record_t *ngx_vidgen_health_find(
    ngx_vidgen_zone_sh_t *sh, ngx_str_t *provider);
static ngx_vidgen_health_record_t *ngx_vidgen_health_open(
    ngx_vidgen_zone_sh_t *sh, ngx_str_t *provider,
    ngx_vidgen_health_record_t *copy);
static void ngx_vidgen_health_store(ngx_vidgen_zone_t *zone,
    ngx_vidgen_health_record_t *record, ngx_vidgen_health_record_t *copy);
static ngx_vidgen_health_e ngx_vidgen_health_judge(
    ngx_vidgen_health_record_t *record, ngx_vidgen_health_rule_t *rule,
    ngx_uint_t passed, ngx_uint_t impaired);
static void ngx_vidgen_health_reason(ngx_vidgen_health_t *health,
    ngx_str_t *reason);


static ngx_str_t  ngx_vidgen_health_credentials = ngx_string("credentials");
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

    credentials = reason->len == ngx_vidgen_health_credentials.len
                  && ngx_memcmp(reason->data,
                                ngx_vidgen_health_credentials.data,
                                reason->len)
                     == 0;

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
    }

    if (copy.health.status != before) {
        copy.health.since = ngx_time();
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


static ngx_vidgen_health_record_t *
ngx_vidgen_health_find(ngx_vidgen_zone_sh_t *sh, ngx_str_t *provider)
{
    ngx_uint_t                   i;
    ngx_vidgen_health_record_t  *record;

    for (i = 0; i < sh->nrecords; i++) {
        record = &sh->records[i];

        if (record->len && record->len == provider->len
            && ngx_memcmp(record->name, provider->data, provider->len) == 0)
        {
            return record;
        }
    }

    return NULL;
}


/*
 * Copies the provider's record, or a blank one with its name, and returns
 * where it is to be stored.  Where no record is free it is that of the
 * provider nothing was heard of for the longest time: reloads leave records
 * of providers that are configured no more.
 */

static ngx_vidgen_health_record_t *
ngx_vidgen_health_open(ngx_vidgen_zone_sh_t *sh, ngx_str_t *provider,
    ngx_vidgen_health_record_t *copy)
{
    ngx_uint_t                   i;
    ngx_vidgen_health_record_t  *record;

    record = ngx_vidgen_health_find(sh, provider);

    if (record) {
        *copy = *record;
        return record;
    }

    ngx_memzero(copy, sizeof(ngx_vidgen_health_record_t));

    if (provider->len > sizeof(copy->name)) {
        return NULL;
    }

    copy->len = provider->len;
    ngx_memcpy(copy->name, provider->data, provider->len);

    record = &sh->records[0];

    for (i = 0; i < sh->nrecords && record->len; i++) {

        if (sh->records[i].len == 0 || sh->records[i].used < record->used) {
            record = &sh->records[i];
        }
    }

    return record;
}


static void
ngx_vidgen_health_store(ngx_vidgen_zone_t *zone,
    ngx_vidgen_health_record_t *record, ngx_vidgen_health_record_t *copy)
{
    if (record == NULL) {
        return;
    }

    copy->used = ngx_time();

    ngx_vidgen_zone_dirty(zone, NGX_VIDGEN_DIRTY_HEALTH
                                + (record - zone->sh->records));

    *record = *copy;
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
