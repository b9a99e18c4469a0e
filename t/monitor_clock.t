#!/usr/bin/perl

# Not under valgrind: it counts probes
#
# Somebody sets the machine's clock back by an hour, after live traffic has
# asked for a probe: the probes go on as they were.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(sleep time);
use Test::More tests => 5;

use VidgenTest::Books qw(customer);
use VidgenTest::Clock;
use VidgenTest::Http qw(get post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $user = customer($pg, 100);
my $clock = VidgenTest::Clock->new;
my $provider = VidgenTest::Provider->new;
$provider->on(qr{/probe}, status => 200);
$provider->on(qr{/jobs}, status => 500);

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
    env  => { $clock->env },
    config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  interval=2s;

    vidgen_provider one {
        base   %%BASE%%;
        submit { url $vidgen_base/jobs; job_id /id; }
        probe  { url $vidgen_base/probe; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        location = /generate-video    { vidgen_generate; }
        location = /health            { vidgen_health; }
    }
}
EOT
$nginx->allow(qr/the database's clock is/);

sub probes {
    return scalar grep { ($_->{uri} // '') eq '/probe' }
        @{ $provider->requests };
}

sub health { get($nginx->url('/health?provider=one'))->{json} // {} }

sub generate {
    post($nginx->url('/generate-video'), { user_id => $user, model_id => 'm',
        prompt => 'p' });
}

ok((wait_for { health()->{last_check} }), 'a probe');
my $before = probes();
generate();
ok((wait_for { probes() > $before }), 'a live failure asks for one');

my $checked = health()->{last_check};
$clock->set(-3600);
ok((wait_for { health()->{last_check} lt $checked }), 'an hour back');
$before = probes();
my $began = time;
sleep 6;
my $more = probes() - $before;
cmp_ok($more, '<=', (time - $began) / 2 + 1.5, 'no more probes than usual');
generate();
$before = probes();
ok((wait_for { probes() > $before }), 'nor fewer');
$nginx->stop;
