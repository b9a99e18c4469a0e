#!/usr/bin/perl

# Not under valgrind: it needs probes in time
#
# Alerts: one message for an outage and one for its end, with the outage's
# length; a floor between outages; what happens while nobody takes messages.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More tests => 33;

use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(free_port wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $telegram = VidgenTest::Provider->new;
my $json = JSON::PP->new->utf8;

my %probe = (
    well => sub { $provider->on(qr{/probe}, status => 200) },
    sick => sub { $provider->on(qr{/probe}, status => 503) },
);
my %works = (status => 200, body => { ok => JSON::PP::true, result => {} });

sub nginx {
    my ($alert, %opt) = @_;
    my $monitor = $opt{monitor} // 'interval=200ms fails=2 timeout=3s';
    my $database = $opt{alone} ? '' : 'vidgen_database "%%DB%%" timeout=3s;';
    $pg->query('TRUNCATE vidgen.alerts, provider_health_log');
    $probe{well}->();
    $telegram->forget;
    $telegram->on(qr{.}, %works);
    return VidgenTest::Nginx->new(
        vars => { DB => $pg->edge_conninfo, BASE => $provider->url,
                  TELEGRAM => $telegram->url },
        env  => { BOT_TOKEN => '123456:AA-bot_secret-token', CHAT => '-10042' },
        config => <<EOT)->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    $database
    vidgen_monitor $monitor;
    vidgen_alert   telegram token=env:BOT_TOKEN chat=env:CHAT
                   url=%%TELEGRAM%%/ $alert;

    vidgen_provider one.ai {
        base   %%BASE%%;
        submit { url \$vidgen_base/jobs; job_id /id; }
        probe  { url \$vidgen_base/probe; }
    }
    server { listen 127.0.0.1:%%PORT%%; location = /h { vidgen_health; } }
}
EOT
}

# The messages so far, delivered or not: first lines.
sub messages {
    return map { (split /\n/, text($_))[0] } @{ $telegram->requests };
}

sub text { $json->decode($_[0]{body})->{text} }

# Those of them that were delivered.
sub delivered {
    return map { (split /\n/, text($_))[0] }
        grep { ($_->{answer} // 0) == 200 } @{ $telegram->requests };
}

sub log_has {
    my ($nginx, $n, $pattern) = @_;
    return wait_for {
        my @found = $nginx->error_log =~ /$pattern/g;
        @found >= $n;
    };
}

my ($down, $up) = ('<b>Provider Down: one.ai</b>',
    '<b>Provider Recovered: one.ai</b>');


# an outage and its end

my $nginx = nginx('every=0');
ok(log_has($nginx, 2, qr/probe of .* passed/), 'it is well');
$probe{sick}->();
ok($telegram->wait_requests(1), 'an outage: a message');
log_has($nginx, 6, qr/probe of .* failed/);
is_deeply([messages()], [$down], 'one only');

my ($message) = @{ $telegram->requests };
is($message->{method}, 'POST', 'as the API has it');
is($message->{uri}, '/bot123456:AA-bot_secret-token/sendMessage', 'its path');
is($message->{headers}{'content-type'}, 'application/json', 'its type');
my $data = $json->decode($message->{body});
is($data->{chat_id}, '-10042', 'to that chat');
is($data->{parse_mode}, 'HTML', 'as HTML');
like($data->{text}, qr/^\Q$down\E\n\d+\ consecutive\ failures:\ http_503\n
    response\ time:\ \d+\ ms\nlast\ check:\ [\d-]+\ [\d:]+\ UTC\n
    since:\ [\d-]+\ [\d:]+\ UTC\nseen\ by:\ \S+$/x, 'what it says');

$probe{well}->();
ok($telegram->wait_requests(2), 'its end: a message');
is_deeply([messages()], [$down, $up], 'about that');
like(text($telegram->requests->[1]),
    qr/^\Q$up\E\nafter \d[\w ]* s, since: [\d-]+ [\d:]+ UTC\nseen by: \S+$/,
    'with the length');
log_has($nginx, 12, qr/probe of /);
is(scalar messages(), 2, 'and no more');
$nginx->stop;
unlike($nginx->error_log, qr/bot_secret/, 'the token is in no log');


# flapping: a floor between outages

$nginx = nginx('every=1h', monitor => 'interval=200ms fails=1 timeout=3s');
for (1 .. 4) {
    $probe{sick}->();
    log_has($nginx, $_, qr/is down/);
    $probe{well}->();
    log_has($nginx, $_, qr/is healthy/);
}
ok((wait_for { messages() == 2 }), 'flapping');
is_deeply([messages()], [$down, $up], 'one outage and its end');
$nginx->stop;


# said again while it lasts

$nginx = nginx('every=0 repeat=1s');
$probe{sick}->();
ok($telegram->wait_requests(3), 'repeat');
is_deeply([(messages())[0 .. 2]], [($down) x 3], 'the same again');
$probe{well}->();
ok((wait_for { (messages())[-1] eq $up }), 'until it ends');
$nginx->stop;


# nobody takes messages for a while

$nginx = nginx('every=0');
$telegram->on(qr{.}, status => 502);
$probe{sick}->();
ok($telegram->wait_requests(1), 'not delivered');
$probe{well}->();
log_has($nginx, 1, qr/is healthy/);
$telegram->on(qr{.}, %works);
ok((wait_for { delivered() >= 2 }), 'both are delivered in the end');
is_deeply([delivered()], [$down, $up], 'in their order');
$nginx->stop;

$nginx = nginx('every=0');
$telegram->script(qr{.}, { status => 429, body => { ok => JSON::PP::false,
    error_code => 429, parameters => { retry_after => 2 } } }, \%works);
$probe{sick}->();
ok($telegram->wait_requests(2), 'a pause that the API asks for');
my @times = map { $_->{time} } @{ $telegram->requests };
cmp_ok($times[1] - $times[0], '>=', 1.9, 'is respected');
$nginx->stop;


for my $asked ({ body => { ok => JSON::PP::false, error_code => 429,
        parameters => { retry_after => 86399 } } },
    { body => 'x', headers => { 'Retry-After' => '99999999999' } })
{
    $nginx = nginx('every=0');
    $telegram->on(qr{.}, status => 429, %$asked);
    $probe{sick}->();
    my $pause = wait_for { my $row = $pg->query('SELECT ceil(extract(epoch
        FROM lease - now())) FROM vidgen.alerts')->[0];
        $row && $row->[0] && $row->[0] > 30 && $row->[0] };
    ok(defined $pause && $pause <= 600, 'a pause of 10 minutes at most')
        or diag($pause);
    $nginx->stop;
}


# without a database

$nginx = nginx('every=0', alone => 1);
log_has($nginx, 1, qr/probe of .* passed/);
$probe{sick}->();
ok($telegram->wait_requests(1), 'no database: an outage');
$probe{well}->();
ok($telegram->wait_requests(2), 'and its end');
is_deeply([messages()], [$down, $up], 'the messages');
$nginx->stop;


# the database itself

$nginx = nginx('every=0', monitor => 'interval=1h timeout=3s');
log_has($nginx, 1, qr/probe of .* passed/);
$pg->stop;
ok($telegram->wait_requests(1), 'the database is away');
is((messages())[0], '<b>Database Unreachable</b>', 'the message');
$pg->start;
ok($telegram->wait_requests(2), 'and is back');
is((messages())[1], '<b>Database Reachable Again</b>', 'the message');
$nginx->stop;
