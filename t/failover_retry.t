#!/usr/bin/perl

# Rounds over providers that did not take it: in which order and after which
# pauses they are asked again, and what bounds that.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Jobs qw(attempts moves);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Sql;

# directives; what a, b, ... answer, one after the other and then always the
# last; who is asked; the least pauses in seconds before each after the first;
# the status and code
my $quick = 'vidgen_retry backoff=60ms;';
my $ok = {};
my $busy = { status => 503 };
my $many = { status => 429 };
my $after = sub { { status => $_[0], headers => { 'Retry-After' => $_[1] } } };

my @cases = (
    ['only one', $quick, [[$busy, $busy, $ok]], 'a a a', [0.03, 0.06],
        '200 '],
    ['only one, in vain', $quick, [[$busy]], 'a a a', [0.03, 0.06],
        '502 provider_failed'],
    ['nobody listens', $quick, [['nobody']], 'a a a', undef,
        '502 provider_failed'],
    ['two in turn', $quick, [[$busy], [$busy]], 'a b a b a b',
        [0, 0.03, 0, 0.06, 0], '502 provider_failed'],
    ['the second round', $quick, [[$busy, $ok], [$busy]], 'a b a', [0, 0.03],
        '200 '],
    ['five times', 'vidgen_retry attempts=5 backoff=10ms max=20ms;',
        [[$busy]], 'a a a a a', [0.005, 0.01, 0.01, 0.01],
        '502 provider_failed'],
    ['once', 'vidgen_retry attempts=1;', [[$busy], [$busy]], 'a b', [0],
        '502 provider_failed'],

    ['never what may have it', $quick, [[{ status => 502 }], [$busy]],
        'a b b b', [0, 0.03, 0.06], '202 '],
    ['both may have it', $quick, [[{ status => 502 }], [{ status => 504 }]],
        'a b', [0], '202 '],
    ['nor who refused the content', $quick, [[$busy], [{ status => 422 }]],
        'a b', [0], '422 provider_refused'],
    ['nor what is not listed', $quick, [[$busy], [{ status => 401 }]],
        'a b', [0], '502 provider_failed'],
    ['what is listed', "$quick vidgen_next_provider http_401;",
        [[{ status => 401 }, $ok]], 'a a', [0.03], '200 '],
    ['nothing', "$quick vidgen_next_provider off;", [[$busy], [$ok]], 'a',
        [], '502 provider_failed'],
    ['what was not sent', "$quick vidgen_next_provider unsent;",
        [['nobody'], ['nobody']], 'a b a b a b', undef,
        '502 provider_failed'],

    ['two tries', "$quick vidgen_next_provider_tries 2;", [[$busy], [$busy]],
        'a b', [0], '502 provider_failed'],
    ['one try', "$quick vidgen_next_provider_tries 1;", [[$busy], [$ok]],
        'a', [], '502 provider_failed'],
    ['four tries', "$quick vidgen_next_provider_tries 4;",
        [[$busy], [$busy]], 'a b a b', [0, 0.03, 0], '502 provider_failed'],
    ['no time for a second one', 'vidgen_next_provider_timeout 100ms;',
        [[{ status => 503, delay => 0.2 }], [$ok]], 'a', [],
        '502 provider_failed'],
    ['no time for a pause', 'vidgen_next_provider_timeout 5s;'
        . 'vidgen_retry backoff=20s max=20s;', [[$busy], [$busy]], 'a b',
        [0], '502 provider_failed'],
    ['the time is over during the first one',
        'vidgen_next_provider_timeout 1200ms;', [[{ hang => 1 }], [$ok]],
        'a', [], '202 '],
    ['the time is over during the second one',
        'vidgen_next_provider_timeout 1500ms;',
        [[{ status => 503, delay => 0.2 }], [{ hang => 1 }]], 'a b', [0.2],
        '202 '],
    ['too little time for a second one',
        'vidgen_next_provider_timeout 1100ms;',
        [[{ status => 503, delay => 0.3 }], [$ok]], 'a', [],
        '502 provider_failed'],
    ['time without a bound', "$quick vidgen_next_provider_timeout 0;",
        [[$busy, $ok]], 'a a', [0.03], '200 '],

    # Retry-After
    ['wait as told', $quick, [[$after->(429, 1), $ok]], 'a a', [1], '200 '],
    ['wait as told, twice', $quick, [[($after->(429, 1)) x 2, $ok]],
        'a a a', [1, 1], '200 '],
    ['0 is a second', $quick, [[$after->(429, 0), $ok]], 'a a', [1],
        '200 '],
    ['a date', $quick, [[$after->(429, 'DATE'), $ok]], 'a a', [1], '200 '],
    ['a date of the past', $quick,
        [[$after->(429, 'Sun, 06 Nov 1994 08:49:37 GMT'), $ok]], 'a a', [1],
        '200 '],
    ['the next one first', $quick, [[$after->(429, 1)], [$ok]], 'a b', [0],
        '200 '],
    ['the one that is ready first', $quick,
        [[$after->(429, 9)], [$after->(429, 1), $ok]], 'a b b', [0, 1],
        '200 '],
    ['meanwhile the others', $quick, [[$after->(429, 3), $ok], [$busy]],
        'a b b b a', [0, 0.03, 0.06, 0], '200 '],
    ['too long', $quick, [[$after->(429, 40)]], 'a', [], '503 no_provider'],
    ['too long, both', $quick, [[$after->(429, 50)], [$after->(429, 40)]],
        'a b', [0], '503 no_provider'],
    (map { (
        ["as long as $_", $quick, [[$after->(429, $_)]], 'a', [],
            '503 no_provider'],
        ["a failure, as long as $_", $quick, [[$after->(503, $_)]], 'a', [],
            '502 provider_failed'],
    ) } '9223372036854775807', '9223372036854775', '9' x 40),
    ['not told, which is 10 seconds', "$quick"
        . 'vidgen_next_provider_timeout 9s;', [[$many]], 'a', [],
        '503 no_provider'],
    ['too many requests, then worse', $quick,
        [[$after->(429, 40)], [$busy]], 'a b b b', [0, 0.03, 0.06],
        '502 provider_failed'],
    ['a failure may say so too', $quick, [[$after->(503, 1), $ok]], 'a a',
        [1], '200 '],
    ['... and is left alone', $quick, [[$after->(503, 40)], [$busy, $ok]],
        'a b b', [0, 0.03], '200 '],
);

plan tests => 8 * @cases + 1;

my $providers = '';
my $locations = '';

for my $i (0 .. $#cases) {
    my ($name, $directives, $answers) = @{ $cases[$i] };
    my @names = map { "$_$i" } ('a' .. 'z')[0 .. $#$answers];
    for my $n (0 .. $#names) {
        my $base = $answers->[$n][0] eq 'nobody'
            ? 'http://127.0.0.1:%%PORT_NOBODY%%' : '%%BASE%%';
        $providers .= <<"EOT";
vidgen_provider $names[$n] {
    submit { url $base/$names[$n]; job_id /request_id; }
}
EOT
    }
    $locations .= "location = /$i { vidgen_generate @names; $directives }\n";
}

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $standin = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars  => { DB => $pg->edge_conninfo, BASE => $standin->url },
    files => { 'providers.conf' => $providers,
        'locations.conf' => $locations },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";
    vidgen_monitor  fails=100;
    include         providers.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        include                       locations.conf;
    }
}
EOT

my $db = VidgenTest::Sql->new($pg);
my $user = customer($db, 1000);
my $balance = 1000;

for my $i (0 .. $#cases) {
    my ($name, undef, $answers, $asked, $pauses, $outcome) = @{ $cases[$i] };

    $standin->forget;
    for my $n (0 .. $#$answers) {
        next if $answers->[$n][0] eq 'nobody';
        my @script = map { {
            %$_,
            headers => { map { s/^DATE$/strftime '%a, %d %b %Y %T GMT',
                gmtime time + 2/er } %{ $_->{headers} // {} } },
        } } @{ $answers->[$n] };
        $standin->script(qr{/@{[('a' .. 'z')[$n]]}$i$}, @script);
    }

    my $begun = time;
    my $answer = post($nginx->url("/$i"), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' });
    my $job = $answer->{json}{job_id};
    my @requests = @{ $standin->requests };
    my @asked = split / /, $asked;
    my $held = $outcome =~ /^20/;
    $balance-- if $held;

    is("$answer->{status} " . ($answer->{json}{code} // ''), $outcome,
        "$name: the answer");
    cmp_ok(time - $begun, '<', 9, "$name: ... before an attempt's own bound");
    is($pauses ? join ' ', map { $_->{uri} =~ m{/(\w)} } @requests
        : scalar @requests, $pauses ? $asked : 0, "$name: who is asked");

    my @early = grep { $requests[$_]{time} - $requests[$_ - 1]{time}
        < $pauses->[$_ - 1] - 0.005 } 1 .. $#requests;
    is_deeply(\@early, [], "$name: not too early")
        or diag(join ' ', map { $_->{time} - $requests[0]{time} } @requests);

    my $got = attempts($db, $job);
    is(join(',', map { /^(\S+)/ } split /, /, $got),
        join(',', map { "$_$i" } @asked),
        "$name: the attempts");
    my @reason = map { /(\S+)$/ } split /, /, $got;
    is(moves($db, $job), join(', ', map { "$asked[$_ - 1]$i $asked[$_]$i"
        . " $reason[$_ - 1]" } grep { $asked[$_] ne $asked[$_ - 1] }
        1 .. $#asked), "$name: the failover log");
    is($pg->value("SELECT provider_attempts FROM video_jobs
        WHERE id = '$job'"), scalar @asked, "$name: the job counts them");
    is(ledger($db, $job) . ' ' . balance($db, $user),
        ($held ? 'hold 1' : 'hold 1, refund 1') . " $balance",
        "$name: the credits");
}

is_deeply([wrong_books($db)], [], 'the books are right');
