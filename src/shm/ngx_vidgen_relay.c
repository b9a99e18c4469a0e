#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_relay.h"
#include "shm/ngx_vidgen_zone.h"
#include "shm/ngx_vidgen_zone_int.h"


static void ngx_vidgen_relay_read(ngx_vidgen_zone_t *zone, ngx_str_t *name,
    ngx_vidgen_relay_record_t *relay);


void
ngx_vidgen_relay_take(ngx_vidgen_zone_t *zone)
{
    zone->sh->monitor = ngx_pid;
}


ngx_uint_t
ngx_vidgen_relay_mine(ngx_vidgen_zone_t *zone)
{
    return zone->sh->monitor == (ngx_atomic_uint_t) ngx_pid;
}


void
ngx_vidgen_relay_beat(ngx_vidgen_zone_t *zone)
{
    zone->sh->beat = ngx_time();
    zone->sh->missed = 0;
}


time_t
ngx_vidgen_relay_age(ngx_vidgen_zone_t *zone)
{
    time_t  beat;

    beat = zone->sh->beat;

    if (beat == 0) {
        return -1;
    }

    /* the clock was set back, or is a bit behind in this process */

    return beat > ngx_time() ? 0 : ngx_time() - beat;
}


ngx_uint_t
ngx_vidgen_relay_missed(ngx_vidgen_zone_t *zone)
{
    return ngx_vidgen_relay_age(zone) > NGX_VIDGEN_RELAY_SILENT
           && ngx_atomic_cmp_set(&zone->sh->missed, 0, 1);
}


ngx_uint_t
ngx_vidgen_relay_probes(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    int64_t *started)
{
    ngx_vidgen_relay_record_t  relay;

    ngx_vidgen_relay_read(zone, provider, &relay);

    *started = relay.started;

    return relay.asks != relay.heard;
}


void
ngx_vidgen_relay_probe(ngx_vidgen_zone_t *zone, ngx_str_t *provider)
{
    ngx_vidgen_health_record_t   copy, *record;

    ngx_vidgen_zone_lock(zone);

    record = ngx_vidgen_health_open(zone->sh, provider, &copy);
    copy.relay.started = ngx_vidgen_relay_now();
    copy.relay.heard = copy.relay.asks;
    ngx_vidgen_health_store(zone, record, &copy);

    ngx_vidgen_zone_unlock(zone);
}


void
ngx_vidgen_relay_note(ngx_vidgen_zone_sh_t *sh,
    ngx_vidgen_health_record_t *record)
{
    ngx_vidgen_relay_change_t  *change;

    change = &sh->change[sh->changes % NGX_VIDGEN_RELAY_CHANGES];

    change->len = record->len;
    ngx_memcpy(change->name, record->name, sizeof(record->name));

    change->status = record->health.status;
    change->failures = record->health.failures;
    change->response_time_ms = record->health.response_time_ms;
    change->when_ms = ngx_vidgen_relay_now();

    /* counted when it is there, should this process die here */

    ngx_memory_barrier();
    sh->changes++;
}


ngx_uint_t
ngx_vidgen_relay_changed(ngx_vidgen_zone_t *zone,
    ngx_vidgen_relay_change_t *change)
{
    ngx_uint_t             n;
    ngx_vidgen_zone_sh_t  *sh;

    sh = zone->sh;

    ngx_vidgen_zone_lock(zone);

    n = sh->changes - sh->noted;

    if (n > NGX_VIDGEN_RELAY_CHANGES) {
        n = NGX_VIDGEN_RELAY_CHANGES;
        sh->noted = sh->changes - n;
    }

    if (n) {
        *change = sh->change[sh->noted % NGX_VIDGEN_RELAY_CHANGES];
        sh->noted++;
    }

    ngx_vidgen_zone_unlock(zone);

    return n > 0;
}


void
ngx_vidgen_relay_keys_new(ngx_vidgen_zone_t *zone, ngx_str_t *provider)
{
    ngx_vidgen_health_record_t   copy, *record;

    ngx_vidgen_zone_lock(zone);

    record = ngx_vidgen_health_open(zone->sh, provider, &copy);
    copy.relay.keys++;
    ngx_vidgen_health_store(zone, record, &copy);

    ngx_vidgen_zone_unlock(zone);
}


uint32_t
ngx_vidgen_relay_keys(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    time_t *asked)
{
    ngx_vidgen_relay_record_t  relay;

    ngx_vidgen_relay_read(zone, provider, &relay);

    *asked = relay.keys_asked;

    return relay.keys;
}


void
ngx_vidgen_relay_keys_ask(ngx_vidgen_zone_t *zone, ngx_str_t *provider)
{
    ngx_vidgen_health_record_t   copy, *record;

    ngx_vidgen_zone_lock(zone);

    record = ngx_vidgen_health_open(zone->sh, provider, &copy);

    if (copy.relay.keys_asked != ngx_time()) {
        copy.relay.keys_asked = ngx_time();
        ngx_vidgen_health_store(zone, record, &copy);
    }

    ngx_vidgen_zone_unlock(zone);
}


void
ngx_vidgen_relay_alert_get(ngx_vidgen_zone_t *zone, ngx_str_t *subject,
    ngx_vidgen_relay_alert_t *alert)
{
    ngx_vidgen_relay_record_t  relay;

    ngx_vidgen_relay_read(zone, subject, &relay);

    *alert = relay.alert;
}


void
ngx_vidgen_relay_alert_set(ngx_vidgen_zone_t *zone, ngx_str_t *subject,
    ngx_vidgen_relay_alert_t *alert)
{
    ngx_vidgen_health_record_t   copy, *record;

    ngx_vidgen_zone_lock(zone);

    record = ngx_vidgen_health_open(zone->sh, subject, &copy);
    copy.relay.alert = *alert;
    ngx_vidgen_health_store(zone, record, &copy);

    ngx_vidgen_zone_unlock(zone);
}


static void
ngx_vidgen_relay_read(ngx_vidgen_zone_t *zone, ngx_str_t *name,
    ngx_vidgen_relay_record_t *relay)
{
    ngx_vidgen_health_record_t  *record;

    ngx_memzero(relay, sizeof(ngx_vidgen_relay_record_t));

    ngx_vidgen_zone_lock(zone);

    record = ngx_vidgen_health_find(zone->sh, name);

    if (record) {
        *relay = record->relay;
    }

    ngx_vidgen_zone_unlock(zone);
}


int64_t
ngx_vidgen_relay_now(void)
{
    ngx_time_t  *now;

    now = ngx_timeofday();

    return (int64_t) now->sec * 1000 + now->msec;
}
